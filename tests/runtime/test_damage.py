"""A finished run, damaged in every way that anybody thought of, and every command on it.

Each command says what is damaged, leaves it out, and ends at once; `retry --damaged` moves it out
of the way, and the run's own command makes it again.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from insetgan_batch.data import damage
from insetgan_batch.data.commits import RunStore, hh
from insetgan_batch.data.storage import LocalStorage
from insetgan_batch.runtime import cluster, driver
from tests import records
from tests.bench import Bench
from tests.methods.negative_bench import bench_in, fields
from tests.runtime.damaging import (
    call,
    check_that_every_command_leaves_it_out,
    commit_key,
    file,
    flipped,
    picture_of,
    run,
)

pytestmark = pytest.mark.ray
ITEM, OTHER = "i0", "i3"
ITEMS = 4


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[RunStore], str]:
    """The commit of the item with something in it changed."""

    def damage_it(store: RunStore) -> str:
        record = json.loads(store.storage.get(commit_key(ITEM)))
        change(record)
        store.storage.put(commit_key(ITEM), json.dumps(record).encode())
        return commit_key(ITEM)

    return damage_it


def replaced(data: bytes) -> Callable[[RunStore], str]:
    """Other bytes instead of the item's commit."""

    def damage_it(store: RunStore) -> str:
        store.storage.put(commit_key(ITEM), data)
        return commit_key(ITEM)

    return damage_it


def another_items_commit(store: RunStore) -> str:
    store.storage.put(commit_key(ITEM), store.storage.get(commit_key(OTHER)))
    return commit_key(ITEM)


def another_items_picture(store: RunStore) -> str:
    return file(ITEM, "image", lambda _: store.storage.get(picture_of(store, OTHER)))(store)


WAYS: dict[str, Callable[[RunStore], str]] = {
    "commit: empty": replaced(b""),
    "commit: half": replaced(b'{"item_id": "i'),
    "commit: an empty object": replaced(b"{}"),
    "commit: a list": replaced(b"[]"),
    "commit: null": replaced(b"null"),
    "commit: zeros": replaced(bytes(512)),
    "commit: not UTF-8": replaced(b'{"item_id": "\xff\xfe"}'),
    "commit: nested without end": replaced(b"[" * 200_000),
    "commit: a terminal's escapes": replaced(b"\x1b]0;title\x07\x1b[2J"),
    "commit: of another item": another_items_commit,
    "commit: files missing": changed(lambda record: record.pop("files")),
    "commit: files of another type": changed(lambda record: record.update(files=[1])),
    "commit: no picture": changed(lambda record: record["files"].pop("image")),
    "commit: item missing": changed(lambda record: record.pop("item")),
    "commit: measures of another type": changed(
        lambda record: record.update(measures={"mean": "\x1b[31m good"})
    ),
    "commit: facts of another type": changed(lambda record: record.update(facts=[])),
    "commit: attempt of another type": changed(lambda record: record.update(attempt=7)),
    "commit: another attempt": changed(lambda record: record.update(attempt="9-9")),
    "commit: a negative size": changed(lambda record: record["files"]["image"].update(bytes=-1)),
    "commit: a short sha256": changed(lambda record: record["files"]["image"].update(sha256="ab")),
    "commit: a key outside": changed(
        lambda record: record["files"]["image"].update(key="../../etc/passwd")
    ),
    "image: gone": file(ITEM, "image", lambda _: None),
    "image: empty": file(ITEM, "image", lambda _: b""),
    "image: cut": file(ITEM, "image", lambda data: data[:-1]),
    "image: a bit": file(ITEM, "image", flipped),
    "image: of another item": another_items_picture,
    "image: longer": file(ITEM, "image", lambda data: data + b"x"),
    "another picture: gone": file(ITEM, "picture", lambda _: None),
}
# Other bytes of the same number: only who reads the file sees it.
UNSEEN_BY_STATUS = {"image: a bit"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A run of four items, and a Ray for what follows."""
    directory = tmp_path_factory.mktemp("finished")
    (directory / "run.yaml").write_text(yaml.safe_dump(fields()))
    with cluster.connected():
        place = bench_in(directory, ITEMS)
        summary = driver.run(place.config, place.manifest, place.out)
        assert summary.committed == ITEMS
        yield place


@pytest.fixture
def place(finished: Bench, tmp_path: Path) -> Bench:
    """A copy of the run, to be damaged."""
    shutil.copytree(finished.out, tmp_path / "out")
    return dataclasses.replace(finished, out=str(tmp_path / "out"))


@pytest.fixture(autouse=True)
def _nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage is no outage: a pause to ask again is an error here."""
    monkeypatch.setattr(
        "insetgan_batch.data.storage.time.sleep", lambda _: pytest.fail("somebody waits")
    )


@pytest.mark.parametrize("way", WAYS)
def test_every_command_says_what_is_damaged_and_leaves_it_out(place: Bench, way: str) -> None:
    is_seen = way not in UNSEEN_BY_STATUS
    check_that_every_command_leaves_it_out(place, WAYS[way], is_seen_by_status=is_seen)


@pytest.mark.parametrize("way", ["commit: empty", "image: cut"])
def test_a_dataset_is_packed_without_what_is_damaged(place: Bench, way: str) -> None:
    key = WAYS[way](RunStore(LocalStorage(Path(place.out))))
    packed = call("pack", place.out)
    assert packed.exit_code == 1, packed.output
    assert "3 items packed" in packed.output
    assert key in packed.output


def test_what_was_damaged_is_made_again_by_the_runs_own_command(
    place: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # a run waits for its workers
    store = RunStore(LocalStorage(Path(place.out)))
    before = {record["item_id"]: record for record in store.commits()}
    WAYS["commit: empty"](store)
    store.storage.delete(picture_of(store, OTHER))
    assert call("retry", place.out, "--damaged").exit_code == 0
    again = run(place)
    assert again.exit_code == 0, again.output
    assert call("verify", place.out).exit_code == 0
    for record in store.commits():
        is_new = record["item_id"] in (ITEM, OTHER)
        assert (record["attempt"] != before[record["item_id"]]["attempt"]) == is_new
        assert record["measures"] == before[record["item_id"]]["measures"]
    # The files of the attempts that were voided have lost to the new ones.
    assert "of 2 attempts" in call("clean", place.out).output
    assert call("verify", place.out).exit_code == 0


# What is not of an item


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"run_id": 7}'])
def test_a_run_without_its_run_json_cannot_be_read_and_says_so(place: Bench, data: bytes) -> None:
    Path(place.out, "run.json").write_bytes(data)
    commands = [
        call(*command)
        for command in (
            ("status", place.out),
            ("report", place.out),
            ("verify", place.out),
            ("clean", place.out),
            ("pack", place.out),
            ("retry", place.out, "--damaged"),
        )
    ]
    for command in [*commands, run(place)]:
        assert command.exit_code == 2
        assert "run.json: damaged: " in command.output
        assert "bring it back from a copy, or move it away" in command.output
    Path(place.out, "run.json").unlink()
    assert run(place).exit_code == 0


def test_a_quarantine_record_that_is_damaged_leaves_its_item_out(place: Bench) -> None:
    store = RunStore(LocalStorage(Path(place.out)))
    store.storage.delete(commit_key(ITEM))
    key = f"quarantine/{hh(ITEM)}/{ITEM}.json"
    store.storage.put(key, b'{"item_id": "i0", "reason": ["\x1b"]}')
    for command in (call("status", place.out), call("report", place.out), run(place)):
        assert command.exit_code == 1
        assert key in command.output
    assert key in call("verify", place.out).output
    assert "1 other records" in call("retry", place.out, "--damaged").output
    assert store.quarantined() == set()


@pytest.mark.parametrize(
    "key", [f"suspects/{hh(ITEM)}/{ITEM}.json", "epochs/000001.json", "ids.parquet"]
)
def test_other_records_cost_no_item(place: Bench, key: str) -> None:
    Path(place.out, key).parent.mkdir(parents=True, exist_ok=True)
    Path(place.out, key).write_bytes(b"{")
    assert run(place).exit_code == 0
    if key != "ids.parquet":  # that has been written anew
        assert key in call("verify", place.out).output
        assert call("retry", place.out, "--damaged").exit_code == 0
    assert call("verify", place.out).exit_code == 0


def test_a_strangers_commit_counts_for_nobody(place: Bench) -> None:
    """One of another run makes no missing item done."""
    store = RunStore(LocalStorage(Path(place.out)))
    store.storage.delete(commit_key(ITEM))
    store.commit("stranger", records.commit("stranger"))
    status = call("status", place.out, "--json")
    answer = json.loads(status.output)
    assert (answer["committed"], answer["left"]) == (3, 1)
    assert "is of no row of the manifest" in call("verify", place.out).output
    assert call("retry", place.out, "--damaged").exit_code == 0
    assert store.listed_commits() == store.committed()


def test_mending_what_is_whole_changes_nothing(place: Bench) -> None:
    before = {p: p.read_bytes() for p in Path(place.out).rglob("*") if p.is_file()}
    store = RunStore(LocalStorage(Path(place.out)))
    assert damage.mend(store) == damage.Mended(0, 0)
    assert {p: p.read_bytes() for p in Path(place.out).rglob("*") if p.is_file()} == before
