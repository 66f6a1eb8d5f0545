"""A packed run is loaded by the libraries that people load datasets with."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import webdataset as wds
import yaml
from PIL import Image
from typer.testing import CliRunner

from insetgan_batch.cli.main import app
from insetgan_batch.data import dataset, provenance, shards
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.dataset import Done, Job
from insetgan_batch.data.formats import FORMATS, Format
from insetgan_batch.data.shards import PackSettings
from insetgan_batch.data.storage import LocalStorage
from insetgan_batch.data.where import Where
from insetgan_batch.errors import ConfigError, NotFoundError, RefusedError, StorageError
from insetgan_batch.methods.insetgan.sources import Source, new_item
from insetgan_batch.runtime import cluster
from insetgan_batch.runtime import pack as packing
from insetgan_batch.runtime.pack import Packed
from tests.report.runs import commit, fail, montage, new_run

ITEMS = 12
SPLITS = {"train": 0.7, "test": 0.3}


def here(jobs: Iterable[Job]) -> Iterator[tuple[Job, Done]]:
    """Instead of Ray; the last shard is the first to be done."""
    for job in reversed(list(jobs)):
        yield job, dataset.write(job)


def new_run_at(directory: Path) -> RunStore:
    """Items that are done, two of them with dots in their names, and one that was set aside."""
    made, store = new_run(), RunStore(LocalStorage(directory))
    for body in range(ITEMS):
        item = montage(body, 1)
        if body < 2:
            item = dataclasses.replace(item, item_id=f"v1.{body}.x", meta={"body": body})
        commit(made, item, seam_after=float(body), score=None if body == 3 else 0.5)
    fail(made, montage(1, 9))
    for key in made.storage.list(""):
        store.storage.put(key, made.storage.get(key))
    return store


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return new_run_at(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def packed(run: RunStore) -> Packed:
    """All formats, in several shards each."""
    settings = PackSettings(
        formats=tuple(FORMATS),
        splits=SPLITS,
        losses_every=2,
        shard_bytes={"parquet": 35_000, "webdataset": 35_000, "jsonl": 12_000},
        table_items=5,
    )
    return packing.pack(run.storage.uri, settings, licence="cc-by-4.0", spread=here)


def directory_of(packed: Packed) -> Path:
    return Path(packed.uri.removeprefix("file://"))


def images(store: RunStore) -> dict[str, bytes]:
    """The committed bytes by item id."""
    return {
        record["item_id"]: store.storage.get(record["files"]["image"]["key"])
        for record in store.commits()
    }


# Who loads it


def test_hugging_face_loads_typed_images_and_splits(
    run: RunStore, packed: Packed, tmp_path: Path
) -> None:
    loaded = datasets.load_dataset(str(directory_of(packed)), cache_dir=str(tmp_path))
    assert {name: len(rows) for name, rows in loaded.items()} == packed.splits
    expected = images(run)
    seen = {}
    for split, rows in loaded.items():
        assert isinstance(rows.features["image"], datasets.Image)
        assert rows["item_id"] == sorted(rows["item_id"])
        undecoded = rows.cast_column("image", datasets.Image(decode=False))
        for row, raw in zip(rows, undecoded, strict=True):
            seen[row["item_id"]] = raw["image"]["bytes"]
            with Image.open(io.BytesIO(expected[row["item_id"]])) as image:
                assert np.array_equal(np.asarray(row["image"]), np.asarray(image))
            assert row["split"] == split
    assert seen == expected


def test_hugging_face_loads_results_and_losses_of_the_same_card(
    packed: Packed, tmp_path: Path
) -> None:
    path, cache = str(directory_of(packed)), str(tmp_path)
    results = datasets.load_dataset(path, "results", cache_dir=cache)["train"]
    assert len(results) == ITEMS + 1
    losses = datasets.load_dataset(path, "losses", cache_dir=cache)["train"]
    assert set(losses.column_names) == {"item_id", "step", "phase", "term", "raw", "weight"}
    assert set(losses["step"]) == {0, 2, 4}
    assert len(set(losses["item_id"])) == ITEMS


def test_a_run_that_is_only_a_folder_of_parquet_loads_too(packed: Packed, tmp_path: Path) -> None:
    """Without the card: the schema in the files says which column is the image."""
    shutil.copytree(directory_of(packed) / "data", tmp_path / "copy" / "data")
    loaded = datasets.load_dataset(str(tmp_path / "copy"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(rows) for name, rows in loaded.items()} == packed.splits
    assert isinstance(loaded["train"].features["image"], datasets.Image)


@pytest.mark.parametrize("kind", ["webdataset", "jsonl"])
def test_hugging_face_loads_the_other_formats(run: RunStore, kind: Format, tmp_path: Path) -> None:
    packed = packing.pack(run.storage.uri, PackSettings((kind,), splits=SPLITS), spread=here)
    loaded = datasets.load_dataset(str(directory_of(packed)), cache_dir=str(tmp_path))
    assert {name: len(rows) for name, rows in loaded.items()} == packed.splits
    if kind == "webdataset":
        assert loaded["train"][0]["png"].size == (32, 64)


@pytest.mark.parametrize("kind", ["webdataset", "jsonl"])
def test_columns_that_are_empty_in_the_first_shards_load(kind: Format, tmp_path: Path) -> None:
    """The first rows have no score, no picture, no truncation for each layer; the last ones do."""
    store = RunStore(LocalStorage(tmp_path / "run"))
    made = new_run()
    for body in range(12):
        item = montage(body, 1)
        name = f"i{body:02d}"
        if body > 8:
            image, insets = Source("image", "file:///a.png"), {"face": Source("seed", 1)}
            made_of = new_item(name, image, insets, meta={"at": "2026-01-02"})
        else:
            made_of = dataclasses.replace(item, item_id=name)
        inversion: dict[str, Any] = {"inversion": {"canvas": {"l1": 0.5}}} if body > 8 else {}
        commit(made, made_of, seam_after=1.5, score=0.5 if body > 8 else None, **inversion)
    for key in made.storage.list(""):
        store.storage.put(key, made.storage.get(key))
    settings = PackSettings((kind,), splits=SPLITS, shard_bytes=dict.fromkeys(FORMATS, 12_000))
    packed = packing.pack(store.storage.uri, settings, spread=here)
    loaded = datasets.load_dataset(str(directory_of(packed)), cache_dir=str(tmp_path / "cache"))
    rows = [row["json"] if kind == "webdataset" else row for s in loaded.values() for row in s]
    assert len(rows) == 12
    by_id = {row["item_id"]: row for row in rows}
    assert by_id["i00"]["score"] is None
    assert by_id["i11"]["score"] == 0.5
    assert by_id["i11"]["inversion.canvas.l1"] == 0.5
    assert by_id["i11"]["canvas_image"] == "file:///a.png"


def test_webdataset_iterates_images_with_their_rows(run: RunStore, packed: Packed) -> None:
    expected, seen = images(run), {}
    for split, count in packed.splits.items():
        urls = sorted(str(p) for p in directory_of(packed).glob(f"webdataset/{split}-*.tar"))
        assert len(urls) > 1
        samples = list(wds.WebDataset(urls, shardshuffle=False))
        assert len(samples) == count
        for sample in samples:
            row = json.loads(sample["json"])
            assert sample["__key__"] == row["item_id"].replace(".", "%2E")
            seen[row["item_id"]] = sample["png"]
        tables = [pd.read_parquet(url.replace(".tar", ".parquet")) for url in urls]
        assert list(pd.concat(tables)["key"]) == [sample["__key__"] for sample in samples]
    assert seen == expected


def test_pandas_and_pyarrow_read_the_results(run: RunStore, packed: Packed) -> None:
    frame = pd.read_parquet(directory_of(packed) / "results.parquet")
    assert list(frame["item_id"]) == sorted([*run.committed(), "body1-face9"])
    done = frame[frame["outcome"] == "committed"].set_index("item_id")
    for record in run.commits():
        row = done.loc[record["item_id"]]
        assert row["seam_after"] == record["measures"]["seam_after"]
        assert row["losses.face.border.l1"] == record["measures"]["losses.face.border.l1"]
        assert row["sha256.image"] == record["files"]["image"]["sha256"]
    # In these runs every weight is 1, and two generators are held to the border.
    border = done["losses.face.border.l1"] * 2
    assert np.allclose(done["weighted.face.border.l1"], border)
    assert frame[frame["outcome"] == "quarantined"]["reason"].tolist() == ["no_face"]
    scan = pads.dataset(directory_of(packed) / "results.parquet")
    few = scan.to_table(filter=pads.field("losses.face.border.l1") > 1)
    assert (scan.schema.names, few.num_rows) == (list(frame.columns), 0)


def test_pandas_reads_the_rows_with_keys(run: RunStore, packed: Packed) -> None:
    files = sorted(directory_of(packed).glob("jsonl/*.jsonl"))
    frame = pd.concat([pd.read_json(path, lines=True) for path in files])
    keys = {row["item_id"]: row["files"]["image"]["key"] for _, row in frame.iterrows()}
    assert {item_id: run.storage.get(key) for item_id, key in keys.items()} == images(run)


def test_provenance_survives_in_every_format(packed: Packed) -> None:
    files = sorted(directory_of(packed).glob("data/*.parquet"))
    pngs = [row["bytes"] for path in files for row in pd.read_parquet(path)["image"]]
    for path in sorted(directory_of(packed).glob("webdataset/*.tar")):
        pngs += [sample["png"] for sample in wds.WebDataset(str(path), shardshuffle=False)]
    assert len(pngs) == 2 * ITEMS
    for png in pngs:
        assert provenance.read(png)["synthetic"] is True
        assert provenance.read_xmp(png)["DigitalSourceType"] == provenance.DIGITAL_SOURCE_TYPE


# What stands beside it


def test_success_counts_and_hashes_every_file(run: RunStore, packed: Packed) -> None:
    directory = directory_of(packed)
    success = json.loads((directory / "_SUCCESS").read_text())
    assert success["items"] == sum(success["splits"].values()) == ITEMS
    assert (success["quarantined"], success["left_out"]) == (1, 0)
    found = {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != "_SUCCESS"
    }
    assert {
        name: (entry["bytes"], entry["sha256"]) for name, entry in success["files"].items()
    } == {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in found.items()}
    for kind, pattern in (("data", "parquet"), ("webdataset", "tar"), ("jsonl", "jsonl")):
        rows = [
            entry["rows"]
            for name, entry in success["files"].items()
            if name.startswith(kind) and name.endswith(pattern)
        ]
        assert sum(rows) == ITEMS
        assert len(rows) > 2


def test_shards_have_numbers_without_gaps(packed: Packed) -> None:
    for split in packed.splits:
        names = [path.stem for path in sorted(directory_of(packed).glob(f"data/{split}-*"))]
        count = len(names)
        assert names == [f"{split}-{n:05d}-of-{count:05d}" for n in range(count)]


def test_the_card_says_what_is_in_it(packed: Packed) -> None:
    text = (directory_of(packed) / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    fields = yaml.safe_load(front)
    assert (fields["license"], fields["size_categories"]) == ("cc-by-4.0", ["n<1K"])
    assert "synthetic" in fields["tags"]
    assert f"| train | {packed.splits['train']} |" in body
    assert "no_face 1" in body
    assert "ab" * 32 in body
    for word in ("gender, age, skin", "Truncation", "`montage`", "cc-by-4.0"):
        assert word in body


# Again, and when it fails


def test_packing_again_is_a_new_dataset_that_is_named_at_the_end(tmp_path: Path) -> None:
    store = new_run_at(tmp_path)
    first = packing.pack(store.storage.uri, PackSettings(), spread=here)
    before = {path: path.read_bytes() for path in directory_of(first).rglob("*") if path.is_file()}
    named_meanwhile = []

    def look(jobs: Iterable[Job]) -> Iterator[tuple[Job, Done]]:
        for done in here(jobs):
            named_meanwhile.append(json.loads(store.storage.get(dataset.LATEST))["name"])
            yield done

    commit(store, montage(50, 1))
    second = packing.pack(store.storage.uri, PackSettings(), spread=look)
    assert set(named_meanwhile) == {first.name}
    assert second.name != first.name
    assert (second.splits, first.splits) == ({"train": ITEMS + 1}, {"train": ITEMS})
    assert {path: path.read_bytes() for path in before} == before
    latest = json.loads(store.storage.get(dataset.LATEST))
    assert latest["name"] == second.name
    assert store.storage.exists(f"{latest['prefix']}/_SUCCESS")


def test_a_dataset_that_failed_is_not_named(tmp_path: Path) -> None:
    store = new_run_at(tmp_path)

    def breaks(jobs: Iterable[Job]) -> Iterator[tuple[Job, Done]]:
        yield next(here(jobs))
        raise StorageError("the store is away")

    with pytest.raises(StorageError, match="is away"):
        packing.pack(store.storage.uri, PackSettings(), spread=breaks)
    assert not store.storage.exists(dataset.LATEST)
    assert not [key for key in store.storage.list("dataset") if key.endswith("_SUCCESS")]


@pytest.mark.parametrize("name", ["image", "losses"])
def test_a_damaged_item_is_in_no_file_of_the_dataset(tmp_path: Path, name: str) -> None:
    """Its picture and its losses are written by different jobs, and only one of them finds out."""
    store = new_run_at(tmp_path)
    key = store.read_commit("body7-face1")["files"][name]["key"]
    store.storage.put(key, b"")
    settings = PackSettings(tuple(FORMATS), table_items=5)
    packed = packing.pack(store.storage.uri, settings, spread=here)
    assert list(packed.damaged) == ["body7-face1"]
    assert key in packed.damaged["body7-face1"]
    assert packed.splits == {"train": ITEMS - 1}
    for path in sorted(directory_of(packed).rglob("*.parquet")):
        ids = pq.read_table(path)["item_id"].to_pylist()
        assert "body7-face1" not in ids
        if path.name == "results.parquet":
            assert len(ids) == ITEMS  # and the one in quarantine
    success = json.loads((directory_of(packed) / "_SUCCESS").read_text())
    assert (success["items"], success["damaged"]) == (ITEMS - 1, 1)


def test_there_must_be_a_run_with_something_in_it(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="holds no run"):
        packing.pack(str(tmp_path), PackSettings(), spread=here)
    with pytest.raises(ConfigError, match="nothing to pack"):
        packing.pack(new_run().storage.uri, PackSettings(), spread=here)


# On Ray


@pytest.fixture(scope="module")
def _on_ray() -> Iterator[None]:
    """One Ray for the tests here, since to start it takes seconds."""
    with cluster.connected():
        yield


@pytest.mark.ray
@pytest.mark.usefixtures("_on_ray")
def test_one_task_writes_one_shard(run: RunStore) -> None:
    settings = PackSettings(
        ("parquet", "webdataset"), Where("seam_after < 6"), SPLITS, table_items=5
    )
    steps: list[str] = []
    packed = packing.pack(run.storage.uri, settings, on_step=steps.append)
    assert sum(packed.splits.values()) == 6
    alone = packing.pack(run.storage.uri, settings, spread=here)
    for path in sorted(directory_of(alone).rglob("*")):
        if path.is_file() and path.name not in ("_SUCCESS", "README.md"):
            twin = directory_of(packed) / path.relative_to(directory_of(alone))
            assert twin.read_bytes() == path.read_bytes()
    assert "7 shards written" in steps


@pytest.mark.ray
@pytest.mark.usefixtures("_on_ray")
def test_what_a_task_raises_arrives_as_itself(run: RunStore) -> None:
    (shard, *_) = shards.ShardPlan(run, PackSettings()).shards()
    nowhere = Job(
        "ftp://nowhere", "dataset/x", shards.ShardPlan(run, PackSettings()).columns, 1, shard
    )
    with pytest.raises(RefusedError, match="'ftp' is not a scheme known here"):
        list(packing.in_tasks([nowhere]))


# The command


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.ray
@pytest.mark.usefixtures("_on_ray")
def test_the_command_packs_and_says_where(run: RunStore) -> None:
    options = ("--format", "jsonl", "--format", "parquet", "--where", "seam_after < 6")
    splits = ("--split", "train=0.5,test=0.5", "--losses-every", "4", "--license", "mit")
    result = call("pack", run.storage.uri, *options, *splits)
    assert result.exit_code == 0, result.output
    assert "6 items packed (train " in result.output
    assert "6 left out, 1 quarantined" in result.output
    directory = Path(result.output.rpartition("dataset: file://")[2].strip())
    success = json.loads((directory / "_SUCCESS").read_text())
    assert (success["formats"], success["losses_every"]) == (["parquet", "jsonl"], 4)
    assert "license: mit" in (directory / "README.md").read_text()
    assert call("verify", run.storage.uri).exit_code == 0


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--where", "seam_aftr < 1"), "no item has a value `seam_aftr`; did you mean seam_after"),
        (("--where", "open('x')"), "is not allowed here"),
        (("--where", "seam_after > 99"), "none of 12 committed items meets"),
        (("--split", "train=0.9"), "the shares' sum is 0.9"),
        (("--format", "csv"), "expected one of parquet, webdataset, jsonl"),
    ],
)
def test_a_wrong_order_gives_one_line_and_exit_code_2(
    run: RunStore, option: tuple[str, str], said: str
) -> None:
    result = call("pack", run.storage.uri, *option)
    assert result.exit_code == 2
    last = result.output.strip().splitlines()[-1]
    assert last.startswith("insetgan-batch: ")
    assert said in last
