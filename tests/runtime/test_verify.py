"""What differs from what was committed is found, and said in one line."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from insetgan_batch.cli.main import app
from insetgan_batch.data.commits import RunStore, hh
from insetgan_batch.data.dataset import LATEST, Done, Job, write
from insetgan_batch.data.shards import PackSettings
from insetgan_batch.data.storage import open_storage
from insetgan_batch.errors import InsetGanError, NotFoundError, RefusedError
from insetgan_batch.runtime import pack as packing
from insetgan_batch.runtime import verify
from tests.methods.negative_bench import SCHEMA, bench_in
from tests.report.runs import commit, fail, montage, new_run
from tests.runtime.made_again import finished, rewrite, rewrite_measure


def here(jobs: Iterable[Job]) -> Iterator[tuple[Job, Done]]:
    for job in jobs:
        yield job, write(job)


@pytest.fixture
def store() -> RunStore:
    store = new_run()
    for body in range(3):
        commit(store, montage(body, 1))
    fail(store, montage(9, 9))
    return store


def differences(store: RunStore) -> list[str]:
    return [line for checked in verify.check(store) for line in checked.differences]


def key_of(store: RunStore, name: str, item_id: str = "body1-face1") -> str:
    return str(store.read_commit(item_id)["files"][name]["key"])


def change(store: RunStore, key: str, how: str) -> None:
    data = store.storage.get(key)
    if how == "gone":
        store.storage.delete(key)
    else:
        changed = {"cut": data[:-1], "flip": data[:-1] + bytes([data[-1] ^ 1]), "empty": b""}
        store.storage.put(key, changed[how])


# What is stored


def test_a_run_as_it_was_left_is_found_so(store: RunStore) -> None:
    packed = packing.pack(store.storage.uri, PackSettings(("parquet", "webdataset")), spread=here)
    found = list(verify.check(store))
    assert [line for checked in found for line in checked.differences] == []
    records = list(store.commits())
    assert sum(c.files for c in found) == sum(len(r["files"]) for r in records) + packed.files
    committed_bytes = sum(file["bytes"] for r in records for file in r["files"].values())
    assert sum(c.bytes for c in found) == committed_bytes + packed.bytes


@pytest.mark.parametrize("name", ["image", "face", "latents", "losses"])
@pytest.mark.parametrize("how", ["cut", "flip", "empty", "gone"])
def test_a_file_that_changed_is_one_line(store: RunStore, name: str, how: str) -> None:
    key = key_of(store, name)
    change(store, key, how)
    (line,) = differences(store)
    assert line.startswith(f"{store.storage.uri}/{key}: ")
    assert ("missing" in line) == (how == "gone")
    assert "\n" not in line


def test_a_broken_commit_is_one_line_each_and_the_others_are_still_looked_at(
    store: RunStore,
) -> None:
    for item_id, text in (("body0-face1", "{"), ("body1-face1", "{}")):
        store.storage.put(f"commits/{hh(item_id)}/{item_id}.json", text.encode())
    change(store, key_of(store, "image", "body2-face1"), "cut")
    first, second, third = differences(store)
    assert "not JSON" in first
    assert "body1-face1.json: damaged: `item_id` is missing" in second
    assert "image.png: sha256 is" in third


def test_a_commit_that_was_copied_to_another_item_is_found(store: RunStore) -> None:
    record = store.read_commit("body1-face1")
    store.commit("body5-face1", record)
    (line,) = differences(store)
    assert "body5-face1.json: damaged: it is of item body1-face1, expected body5-face1" in line


@pytest.mark.parametrize(
    "name", ["README.md", "results.parquet", "data/train-00000-of-00001.parquet"]
)
@pytest.mark.parametrize("how", ["flip", "gone"])
def test_a_file_of_the_dataset_that_changed_is_found(store: RunStore, name: str, how: str) -> None:
    packed = packing.pack(store.storage.uri, PackSettings(), spread=here)
    key = f"dataset/{packed.name}/{name}"
    change(store, key, how)
    (line,) = differences(store)
    assert line.startswith(f"{store.storage.uri}/{key}: ")


def test_a_file_that_does_not_belong_to_the_dataset_is_found(store: RunStore) -> None:
    packed = packing.pack(store.storage.uri, PackSettings(), spread=here)
    store.storage.put(f"dataset/{packed.name}/data/train-00009-of-00010.parquet", b"x")
    (line,) = differences(store)
    assert "train-00009-of-00010.parquet: not a file of this dataset" in line


@pytest.mark.parametrize("text", [None, "{}", "[]", "{", '{"prefix": "dataset/x", "sha256": ""}'])
def test_a_pointer_to_no_finished_dataset_is_found(store: RunStore, text: str | None) -> None:
    packed = packing.pack(store.storage.uri, PackSettings(), spread=here)
    if text is None:
        change(store, f"dataset/{packed.name}/_SUCCESS", "cut")
    else:
        store.storage.put(LATEST, text.encode())
    (line,) = differences(store)
    assert f"{LATEST}: names no finished dataset" in line


def test_older_datasets_are_not_looked_at(store: RunStore) -> None:
    old = packing.pack(store.storage.uri, PackSettings(), spread=here)
    packing.pack(store.storage.uri, PackSettings(), spread=here)
    change(store, f"dataset/{old.name}/results.parquet", "flip")
    assert differences(store) == []


class _Closed:
    """A store that lets nobody read, but its list."""

    def __init__(self, store: RunStore) -> None:
        self._inner = store.storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def read_into(self, key: str, file: object) -> None:
        raise RefusedError(f"{key}: AccessDenied")


def test_a_store_that_refuses_is_an_error_and_no_thousand_lines(store: RunStore) -> None:
    with pytest.raises(RefusedError, match="AccessDenied"):
        differences(RunStore(_Closed(store)))
    with pytest.raises(NotFoundError, match="holds no run"):
        differences(RunStore(open_storage("memory://nothing-here")))


# The command


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_verify_leaves_with_1_and_a_line_for_each_difference(store: RunStore) -> None:
    good = call("verify", store.storage.uri)
    assert good.exit_code == 0, good.output
    assert "all as it was" in good.output
    for name in ("image", "losses"):
        change(store, key_of(store, name), "flip")
    bad = call("verify", store.storage.uri)
    assert bad.exit_code == 1, bad.output
    lines = [line for line in bad.stdout.splitlines() if line.startswith("memory://")]
    assert [line.split(": ")[0].rpartition("/")[2] for line in lines] == [
        "image.png",
        "losses.parquet",
    ]
    assert "2 differences" in bad.stdout
    assert call("verify", "memory://nothing-here").exit_code == 2


# Made again


@pytest.fixture(scope="module")
def three_items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, for copies."""
    place = bench_in(tmp_path_factory.mktemp("run"), 3)
    finished(place, SCHEMA)
    return Path(place.out)


@pytest.fixture
def done(three_items: Path, tmp_path: Path) -> RunStore:
    """That run, to be changed."""
    shutil.copytree(three_items, tmp_path / "copy")
    return RunStore(open_storage(str(tmp_path / "copy")))


def test_items_that_are_made_again_have_the_same_measures(done: RunStore) -> None:
    before = {key: done.storage.get(key) for key in done.storage.list("")}
    for count, made in ((2, 2), (99, 3)):
        steps: list[str] = []
        assert verify.redo(done, count, on_step=steps.append) == []
        assert steps[-1] == f"{made} of {made} items made again"
    assert {key: done.storage.get(key) for key in done.storage.list("")} == before


def test_a_measure_beyond_its_tolerance_is_one_line(done: RunStore) -> None:
    rewrite_measure(done, "i1", "mean", 9.5)
    (line,) = verify.redo(done, 3)
    assert line.startswith("item i1: its mean is 244.0 when made again by ")
    assert "expected 9.5 within 0%, as made by" in line


def test_which_items_are_made_again_is_drawn(done: RunStore) -> None:
    for item_id in done.committed():
        rewrite_measure(done, item_id, "mean", 99.0)
    drawn = {verify.redo(done, 1, draw=random.Random(seed))[0] for seed in (0, 1)}
    assert len({line.split(":")[0] for line in drawn}) == 2


def test_an_item_that_cannot_be_made_again_is_one_line(done: RunStore) -> None:
    record = done.read_commit("i1")
    record["item"]["inputs"]["picture"] = "/nowhere/at/all.png"
    rewrite(done, "i1", item=record["item"])
    (line,) = verify.redo(done, 3)
    assert line.startswith("item i1: cannot be made again: ")


def test_a_run_with_nothing_done_has_nothing_to_make_again() -> None:
    with pytest.raises(InsetGanError, match="no item is committed"):
        verify.redo(new_run(), 1)


def test_the_command_makes_items_again(done: RunStore) -> None:
    good = call("verify", done.storage.uri, "--redo", "1")
    assert good.exit_code == 0, good.output
    assert "1 items made again: all as it was" in good.output
    for item_id in done.committed():
        rewrite_measure(done, item_id, "mean", 9.0)
    bad = call("verify", done.storage.uri, "--redo", "1")
    assert bad.exit_code == 1
    assert "expected 9.0 within 0%" in bad.stdout
