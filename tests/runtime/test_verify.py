"""What differs from what was committed is found, and said in one line."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from insetgan_batch.cli.main import app
from insetgan_batch.config import to_fields
from insetgan_batch.data import manifest, models
from insetgan_batch.data.commits import RunStore, hh
from insetgan_batch.data.dataset import LATEST, Done, Job, write
from insetgan_batch.data.shards import PackSettings
from insetgan_batch.data.storage import open_storage
from insetgan_batch.errors import CheckpointError, InsetGanError, NotFoundError, RefusedError
from insetgan_batch.methods.insetgan.sources import Source, new_item, schema
from insetgan_batch.records import Item, Lease
from insetgan_batch.runtime import pack as packing
from insetgan_batch.runtime import verify
from tests.bench import Bench, bench_in, fields_of
from tests.report.runs import commit, fail, montage, new_run
from tests.runtime.recording import RecordingWorker

MakeBench = Callable[..., Bench]


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


def finished(place: Bench) -> RunStore:
    """A run of that bench, done by a worker in this process."""
    store = RunStore(open_storage(place.out))
    fields = to_fields(place.config)
    machine = {name: fields.pop(name) for name in ("slots", "input_roots", "film_every")}
    weights = {
        name: models.fetch(model).sha256 for name, model in place.config.settings.models.items()
    }
    manifest_of_it = {"manifest": {"sha256": "", "items": 1}}
    run = {"run_id": "run", "configuration": fields | manifest_of_it, "machine": machine}
    store.open_run(run | {"weights": weights})
    rows = manifest.read(place.manifest, schema(["face"]))
    items = [row for row in rows if isinstance(row, Item)]
    worker = RecordingWorker(place.config, place.out)
    for n, item in enumerate(items, 1):
        worker.serve_all([Lease(item, f"1-{n}", "w", 1e9)])
    worker.close()
    return store


@pytest.fixture(scope="module")
def three_items(tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, for copies. Few steps: untrained generators amplify the rounding of another
    batch more than trained ones.
    """
    place = bench_in(tmp_path_factory.mktemp("run"), fields_of(tiny_models), bodies=1, faces=3)
    finished(place)
    return Path(place.out)


@pytest.fixture
def done(three_items: Path, tmp_path: Path) -> RunStore:
    """That run, to be changed."""
    shutil.copytree(three_items, tmp_path / "copy")
    return RunStore(open_storage(str(tmp_path / "copy")))


def rewrite(store: RunStore, item_id: str, **changes: Any) -> None:
    record = store.read_commit(item_id) | changes
    store.storage.put(f"commits/{hh(item_id)}/{item_id}.json", json.dumps(record).encode())


def rewrite_score(store: RunStore, item_id: str, score: float) -> None:
    rewrite(store, item_id, measures=store.read_commit(item_id)["measures"] | {"score": score})


def test_items_that_are_made_again_have_the_same_scores(done: RunStore) -> None:
    before = {key: done.storage.get(key) for key in done.storage.list("")}
    for count, made in ((2, 2), (99, 3)):
        steps: list[str] = []
        assert verify.redo(done, count, on_step=steps.append) == []
        assert steps[-1] == f"{made} of {made} items made again"
    assert {key: done.storage.get(key) for key in done.storage.list("")} == before


def test_a_score_beyond_2_percent_is_one_line(done: RunStore) -> None:
    first, second, _ = sorted(done.committed())
    score, other = (done.read_commit(i)["measures"]["score"] or 0.0 for i in (first, second))
    rewrite_score(done, first, score * 1.03)
    rewrite_score(done, second, other * 1.01)
    (line,) = verify.redo(done, 3)
    found = re.fullmatch(
        rf"item {first}: its score is (\S+) when .* expected (\S+) within 2%.*", line
    )
    assert found, line
    assert float(found[1]) == pytest.approx(score, rel=1e-3)
    assert float(found[2]) == score * 1.03


def test_which_items_are_made_again_is_drawn(done: RunStore) -> None:
    for item_id in done.committed():
        rewrite_score(done, item_id, 99.0)
    drawn = {verify.redo(done, 1, draw=random.Random(seed))[0] for seed in (0, 1)}
    assert len({line.split(":")[0] for line in drawn}) == 2


def test_an_item_that_began_at_files_is_made_again_from_them(
    bench: MakeBench, done: RunStore, tmp_path: Path
) -> None:
    path = tmp_path / "canvas.png"
    path.write_bytes(done.storage.get(key_of(done, "image", "body0-face10")))
    place = bench(input_roots=[str(tmp_path)])
    item = new_item("of-file", Source("image", str(path)), {"face": Source("seed", 3)}, seed=4)
    manifest.write(place.manifest, [item], schema(["face"]))
    store = finished(place)
    assert store.committed() == {"of-file"}
    assert verify.redo(store, 1) == []


def test_other_weights_are_refused(done: RunStore) -> None:
    run = done.read_run()
    run["weights"]["face"] = "0" * 64
    done.storage.put("run.json", json.dumps(run).encode())
    with pytest.raises(CheckpointError, match=r"\(face\): its sha256 is .*made with 000"):
        verify.redo(done, 1)


def test_a_commit_that_names_other_weights_than_the_run_is_one_line(done: RunStore) -> None:
    item_id, *_ = done.committed()
    provenance = done.read_commit(item_id)["provenance"]
    provenance["weights"]["face"] = "0" * 64
    rewrite(done, item_id, provenance=provenance)
    (line,) = verify.redo(done, 3)
    assert line.startswith(f"item {item_id}: made with the weights ")
    assert "0" * 64 in line
    assert done.read_run()["weights"]["face"] in line


def test_an_item_that_cannot_be_made_again_is_one_line(done: RunStore) -> None:
    item_id, *_ = done.committed()
    record = done.read_commit(item_id)
    del record["item"]["inputs"]["canvas_seed"]
    record["item"]["inputs"]["canvas_image"] = "/nowhere/at/all.png"
    rewrite(done, item_id, item=record["item"])
    (line,) = verify.redo(done, 3)
    assert line.startswith(f"item {item_id}: cannot be made again: ")


def test_a_run_with_nothing_done_has_nothing_to_make_again() -> None:
    with pytest.raises(InsetGanError, match="no item is committed"):
        verify.redo(new_run(), 1)


def test_the_command_makes_items_again(done: RunStore) -> None:
    good = call("verify", done.storage.uri, "--redo", "1")
    assert good.exit_code == 0, good.output
    assert "1 items made again: all as it was" in good.output
    for item_id in done.committed():
        rewrite_score(done, item_id, 9.0)
    bad = call("verify", done.storage.uri, "--redo", "1")
    assert bad.exit_code == 1
    assert "expected 9.0 within 2%" in bad.stdout
