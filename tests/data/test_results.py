"""What an item leaves behind comes back as it was, or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import uuid
from typing import Any

import hypothesis.extra.numpy as stnp
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from PIL import Image, ImageSequence

from insetgan_batch.data import results
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.results import LossTable, Result
from insetgan_batch.data.storage import MemoryStorage
from insetgan_batch.errors import DamagedError, NotFoundError, StorageError
from insetgan_batch.methods.insetgan.sources import Source, new_item

ITEM = new_item("body1-face2", Source("seed", 1), {"face": Source("seed", 2)}, meta={"name": "Ada"})
MEASURES = {"seam_after": 0.1, "losses.canvas.body.l1": 0.5}
FACTS = {"stop": "converged", "face_region": [1.0, 2.0, 3.0, 4.0]}
PREFIX = "items/37/body1-face2/1-4"


@pytest.fixture
def store() -> RunStore:
    return RunStore(MemoryStorage(uuid.uuid4().hex))


def losses(rows: int = 6) -> LossTable:
    numbers = np.arange(rows)
    return LossTable(
        round=(numbers // 4).astype(np.int32),
        phase=["canvas" if n % 4 < 2 else "face" for n in numbers],
        step=(numbers // 2).astype(np.int32),
        term=["canvas.coarse.l1" if n % 2 else "canvas.border" for n in numbers],
        raw=np.linspace(0.1, 1, rows, dtype=np.float32),
        weight=np.full(rows, 0.5, np.float32),
    )


def result(**changes: Any) -> Result:
    rng = np.random.default_rng(0)
    values: dict[str, Any] = {
        "item": ITEM,
        "attempt": "1-4",
        "images": {
            "image": rng.integers(0, 256, (24, 12, 3), dtype=np.uint8),
            "face": rng.integers(0, 256, (8, 8, 3), dtype=np.uint8),
        },
        "latents": {"canvas.w": rng.normal(size=(1, 16)).astype(np.float32)},
        "losses": losses(),
        "seconds": 30.25,
        "steps": 12,
        "measures": MEASURES,
        "facts": FACTS,
        "provenance": {"weights": {"canvas": "aa"}, "configuration": {"psi": 0.7}},
    }
    return Result(**{**values, **changes})


def test_everything_comes_back_as_it_was(store: RunStore) -> None:
    saved = result()
    store.commit("body1-face2", results.save(store, saved))
    record = store.read_commit("body1-face2")
    for name, image in saved.images.items():
        found = results.read_image(store, record, name)
        assert found.dtype == np.uint8
        assert np.array_equal(found, image)
    latents = results.read_latents(store, record)
    assert latents.keys() == saved.latents.keys()
    assert np.array_equal(latents["canvas.w"], saved.latents["canvas.w"])
    found_losses = results.read_losses(store, record)
    assert found_losses is not None
    assert_same(found_losses, losses())


def test_record_names_every_file_and_keeps_the_item(store: RunStore) -> None:
    record = results.save(store, result())
    names = {
        "image": "image.png",
        "face": "face.png",
        "latents": "latents.safetensors",
        "losses": "losses.parquet",
    }
    assert {name: file["key"] for name, file in record["files"].items()} == {
        name: f"{PREFIX}/{file}" for name, file in names.items()
    }
    for file in record["files"].values():
        data = store.storage.get(file["key"])
        assert file["sha256"] == hashlib.sha256(data).hexdigest()
        assert file["bytes"] == len(data)
    assert (record["item_id"], record["attempt"]) == ("body1-face2", "1-4")
    assert record["item"] == dataclasses.asdict(ITEM)
    assert (record["measures"], record["facts"]) == (MEASURES, FACTS)
    assert (record["steps"], record["seconds"]) == (12, 30.25)
    assert record["provenance"] == {**result().provenance, "synthetic": True}
    assert json.loads(json.dumps(record)) == record


def test_saving_commits_nothing(store: RunStore) -> None:
    results.save(store, result())
    assert store.committed() == set()
    assert {key.rpartition("/")[0] for key in store.storage.list("")} == {PREFIX}


def test_attempts_leave_each_others_files_alone(store: RunStore) -> None:
    first = results.save(store, result())
    black = np.zeros((8, 8, 3), np.uint8)
    second = results.save(store, result(attempt="2-1", images={"image": black}))
    assert np.array_equal(results.read_image(store, first, "image"), result().images["image"])
    assert np.array_equal(results.read_image(store, second, "image"), black)


def test_views_of_larger_arrays_are_saved_as_they_look(store: RunStore) -> None:
    image = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)[::-1, ::2]
    latent = np.arange(12, dtype=np.float32).reshape(3, 4).T
    record = results.save(store, result(images={"image": image}, latents={"w": latent}))
    assert np.array_equal(results.read_image(store, record, "image"), image)
    assert np.array_equal(results.read_latents(store, record)["w"], latent)


# Damage


@pytest.mark.parametrize("name", ["image", "face", "latents", "losses"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_damaged_file_is_an_error(store: RunStore, name: str, damage: str) -> None:
    record = results.save(store, result())
    key = record["files"][name]["key"]
    data = store.storage.get(key)
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    store.storage.put(key, {"flip": flipped, "cut": data[:-1], "empty": b""}[damage])
    readers = {"latents": results.read_latents, "losses": results.read_losses}
    with pytest.raises(StorageError, match=rf"{key}: damaged: sha256 is .*, the commit says"):
        readers[name](store, record) if name in readers else results.read_image(store, record, name)


def test_file_that_is_gone_is_damage_and_one_that_never_was_is_not_found(store: RunStore) -> None:
    record = results.save(store, result())
    store.storage.delete(record["files"]["face"]["key"])
    with pytest.raises(DamagedError, match=r"face.png: missing; a commit names it"):
        results.read_image(store, record, "face")
    with pytest.raises(NotFoundError, match="has no file 'shoes'; there are image, face, latents"):
        results.read_image(store, record, "shoes")


# What a result must be


@pytest.mark.parametrize(
    "images",
    [
        {},
        {"face": np.zeros((4, 4, 3), np.uint8)},
        {"image": np.zeros((4, 4, 3), np.float32)},
        {"image": np.zeros((4, 4), np.uint8)},
        {"image": np.zeros((3, 4, 4), np.uint8)},
        {"image": np.zeros((4, 4, 3), np.uint8), "losses": np.zeros((4, 4, 3), np.uint8)},
    ],
)
def test_images_that_cannot_be_saved_are_our_own_bug(images: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="image"):
        result(images=images)


def test_a_result_without_latents_and_losses_leaves_its_images(store: RunStore) -> None:
    record = results.save(store, result(latents={}, losses=None))
    assert record["files"].keys() == {"image", "face"}
    assert results.read_losses(store, record) is None


# Losses


def assert_same(found: LossTable, expected: LossTable) -> None:
    assert (found.phase, found.term) == (expected.phase, expected.term)
    for name, kind in (("round", np.int32), ("step", np.int32), ("raw", np.float32)):
        assert getattr(found, name).dtype == kind
    for name in ("round", "step", "raw", "weight"):
        assert np.array_equal(
            getattr(found, name), getattr(expected, name), equal_nan=name == "raw"
        )


FLOATS = stnp.arrays(np.float32, st.shared(st.integers(0, 20), key="rows"))
WORDS = st.shared(st.integers(0, 20), key="rows").flatmap(
    lambda rows: st.lists(st.text(max_size=5), min_size=rows, max_size=rows)
)
INTS = stnp.arrays(np.int32, st.shared(st.integers(0, 20), key="rows"))


@given(
    table=st.builds(
        LossTable, round=INTS, phase=WORDS, step=INTS, term=WORDS, raw=FLOATS, weight=INTS
    )
)
@settings(max_examples=40, database=None)
def test_losses_survive_their_file(table: LossTable) -> None:
    table = dataclasses.replace(table, weight=np.sign(table.weight).astype(np.float32))
    assert_same(LossTable.from_parquet(table.to_parquet()), table)


def test_weighted_loss_is_a_column_of_the_file() -> None:
    table = dataclasses.replace(losses(), weight=np.linspace(0, 2, 6, dtype=np.float32))
    columns = pq.read_table(pa.BufferReader(table.to_parquet()))
    assert columns.column_names == ["round", "phase", "step", "term", "raw", "weight", "weighted"]
    assert np.array_equal(columns["weighted"].to_numpy(), table.raw * table.weight)
    assert columns.schema.field("weighted").type == pa.float32()


def test_plain_python_numbers_are_cast() -> None:
    table = LossTable(
        round=np.array([0, 1]),
        phase=["canvas", "face"],
        step=np.array([0, 1]),
        term=["a", "b"],
        raw=np.array([0.1, 0.2]),
        weight=np.array([1, 2]),
    )
    assert_same(
        LossTable.from_parquet(table.to_parquet()),
        dataclasses.replace(table, raw=table.raw.astype(np.float32)),
    )


def test_columns_of_different_length_are_our_own_bug() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        dataclasses.replace(losses(), term=["a"])


def test_other_file_is_no_loss_table() -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"round": [1]}), sink)
    for data in (b"", b"PAR1", sink.getvalue()):
        with pytest.raises(StorageError, match="not a loss table"):
            LossTable.from_parquet(data)


def test_a_film_shows_its_frames_and_then_the_result_for_a_second(store: RunStore) -> None:
    shades = [np.full((24, 12, 3), shade, np.uint8) for shade in (0, 80, 160, 240)]
    *frames, last = shades
    record = results.save(store, result(images={"image": last}, film=frames))
    assert record["files"]["film"]["key"] == f"{PREFIX}/film.webp"
    with Image.open(io.BytesIO(results.read_file(store, record, "film"))) as film:
        shown = []
        for frame in ImageSequence.Iterator(film):
            frame.load()
            shown.append((round(np.asarray(frame.convert("RGB")).mean()), frame.info["duration"]))
    assert [duration for _, duration in shown] == [83, 83, 83, 1000]
    assert [shade for shade, _ in shown] == pytest.approx([0, 80, 160, 240], abs=3)


def test_without_frames_there_is_no_film(store: RunStore) -> None:
    assert "film" not in results.save(store, result())["files"]
