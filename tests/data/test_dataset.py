"""Which shards a dataset has, and that what is in them is what was committed."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import tarfile
from typing import Any

import pyarrow.parquet as pq
import pytest

from insetgan_batch.data import dataset, shards
from insetgan_batch.data.commits import RunStore, hh
from insetgan_batch.data.dataset import Job, WrittenFile
from insetgan_batch.data.formats import FORMATS
from insetgan_batch.data.shards import PackSettings, Shard, ShardPlan
from insetgan_batch.data.where import Where
from insetgan_batch.errors import ConfigError
from insetgan_batch.methods.insetgan.sources import Source, new_item
from tests import records
from tests.report.runs import commit, fail, montage, new_run

PREFIX = "dataset/d"


@pytest.fixture
def store() -> RunStore:
    """Six items that are done, one set aside that would stand between them, one bad row."""
    store = new_run()
    for body in range(6):
        commit(store, montage(body, 1), seam_after=float(body))
    fail(store, montage(2, 5))
    store.quarantine("row-000000009", records.quarantined("row-000000009", "bad_row"))
    return store


def plan(store: RunStore, **changes: Any) -> ShardPlan:
    return ShardPlan(store, PackSettings(**changes))


def write(
    store: RunStore, shard: Shard, chosen: ShardPlan, losses_every: int = 1
) -> list[WrittenFile]:
    done = dataset.write(Job(store.storage.uri, PREFIX, chosen.columns, losses_every, shard))
    assert done.damaged == {}
    return done.files


def shards_of(chosen: ShardPlan, kind: str) -> list[Shard]:
    return [shard for shard in chosen.shards() if shard.kind == kind]


def one(store: RunStore, kind: Any, **changes: Any) -> list[WrittenFile]:
    """The files of a format's only shard."""
    chosen = plan(store, formats=(kind,) if kind != "tables" else ("parquet",), **changes)
    (shard,) = shards_of(chosen, kind)
    return write(store, shard, chosen, changes.get("losses_every", 1))


def table(store: RunStore, key: str) -> Any:
    return pq.read_table(io.BytesIO(store.storage.get(key)))


def png_of(store: RunStore, item_id: str) -> bytes:
    return store.storage.get(store.read_commit(item_id)["files"]["image"]["key"])


# Which shards


def test_every_item_is_in_one_shard_of_each_format_in_the_order_of_ids(store: RunStore) -> None:
    chosen = plan(
        store,
        formats=tuple(FORMATS),
        splits={"train": 0.5, "test": 0.5},
        shard_bytes={"parquet": 20_000, "webdataset": 30_000, "jsonl": 9_000},
    )
    for kind in FORMATS:
        found = shards_of(chosen, kind)
        for split in ("train", "test"):
            own = [shard for shard in found if shard.split == split]
            assert [shard.number for shard in own] == list(range(len(own)))
            assert {shard.count for shard in own} == {len(own)}
            ids = [item_id for shard in own for item_id in shard.ids]
            assert ids == sorted(ids)
            assert len(ids) == chosen.counts[split]
            assert all(shard.ids for shard in own)
        everything = sorted(item_id for shard in found for item_id in shard.ids)
        assert everything == sorted(store.committed())
        assert len(found) > 2
    assert shards_of(chosen, "parquet")[0].name.startswith("train-00000-of-0000")


def test_the_same_run_gives_the_same_shards_and_the_same_bytes(store: RunStore) -> None:
    first = [written for kind in FORMATS for written in one(store, kind)]
    again = [written for kind in FORMATS for written in one(store, kind)]
    assert first == again


def test_a_shard_is_no_larger_than_it_may_be(store: RunStore) -> None:
    limit = 30_000
    chosen = plan(store, shard_bytes={"parquet": limit})
    sizes = [write(store, shard, chosen)[0].bytes for shard in shards_of(chosen, "parquet")]
    assert len(sizes) > 1
    # A footer of so many columns weighs more than these few rows.
    images = [sum(len(png_of(store, i)) for i in s.ids) for s in shards_of(chosen, "parquet")]
    assert max(images) < limit


def test_an_image_larger_than_a_shard_has_one_of_its_own(store: RunStore) -> None:
    chosen = plan(store, shard_bytes={"parquet": 1})
    assert [len(shard.ids) for shard in shards_of(chosen, "parquet")] == [1] * 6


def test_only_items_that_meet_the_condition_are_packed(store: RunStore) -> None:
    chosen = plan(store, where=Where("seam_after < 2 and canvas_seed >= 0"))
    (shard,) = shards_of(chosen, "parquet")
    assert shard.ids == ["body0-face1", "body1-face1"]
    assert (chosen.items, chosen.committed, chosen.counts) == (2, 6, {"train": 2})


def test_a_dataset_of_nothing_is_an_error_that_says_why(store: RunStore) -> None:
    with pytest.raises(ConfigError, match="none of 6 committed items meets 'seam_after > 99'"):
        plan(store, where=Where("seam_after > 99"))
    with pytest.raises(ConfigError, match="no item has a value `seam_aft`; did you mean seam_aft"):
        plan(store, where=Where("seam_aft > 99"))
    with pytest.raises(ConfigError, match="nothing to pack: no item is committed yet"):
        plan(new_run())


def test_reasons_of_the_quarantined_are_counted(store: RunStore) -> None:
    commit(store, montage(2, 5))  # it was tried again
    assert plan(store).reasons == {"bad_row": 1}


# Splits


def test_an_item_keeps_its_split_whatever_else_there_is() -> None:
    splits = {"train": 0.8, "test": 0.2}
    names = [f"item-{n}" for n in range(2000)]
    found = [shards.split_of(name, splits) for name in names]
    assert 0.17 < found.count("test") / len(found) < 0.23
    larger = {"train": 0.7, "test": 0.2, "more": 0.1}
    moved = [s for n, s in zip(names, found, strict=True) if shards.split_of(n, larger) != s]
    assert set(moved) == {"train", "test"}
    assert shards.split_of("item-0", {"train": 1.0}) == "train"


def test_a_sample_of_the_manifest_is_in_all_splits() -> None:
    """`--sample` takes the smallest hashes of ids; the split must not follow from the same."""
    names = sorted(
        (f"i{n}" for n in range(4000)), key=lambda n: hashlib.sha256(n.encode()).digest()
    )
    found = [shards.split_of(name, {"train": 0.5, "test": 0.5}) for name in names[:200]]
    assert 60 < found.count("test") < 140


@pytest.mark.parametrize(
    "text",
    ["", "train", "train=x", "train=0.5", "train=1,test=0", "a=0.5,a=0.5", "a-b=1", "a=nan", "a=2"],
)
def test_shares_that_make_no_whole_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--split .*expected shares above 0 whose sum is 1"):
        shards.parse_splits(text)


def test_shares_are_read_in_their_order() -> None:
    assert shards.parse_splits("train=0.9, test=0.1") == {"train": 0.9, "test": 0.1}
    assert shards.parse_formats(["jsonl", "parquet", "jsonl"]) == ("parquet", "jsonl")
    with pytest.raises(ConfigError, match="expected one of parquet, webdataset, jsonl"):
        shards.parse_formats(["csv"])


# What is in them


def test_parquet_holds_the_images_byte_for_byte_beside_what_is_known(store: RunStore) -> None:
    (written,) = one(store, "parquet")
    assert written.key == f"{PREFIX}/data/train-00000-of-00001.parquet"
    found = table(store, written.key)
    feature = json.loads(found.schema.metadata[b"huggingface"])
    assert feature == {"info": {"features": {"image": {"_type": "Image"}}}}
    rows = found.to_pylist()
    assert [row["item_id"] for row in rows] == sorted(store.committed())
    for row in rows:
        assert row["image"] == {
            "bytes": png_of(store, row["item_id"]),
            "path": f"{row['item_id']}.png",
        }
        record = store.read_commit(row["item_id"])
        assert row["sha256.image"] == hashlib.sha256(row["image"]["bytes"]).hexdigest()
        assert row["losses.face.border.l1"] == record["measures"]["losses.face.border.l1"]
        assert (row["seam_after"], row["split"]) == (record["measures"]["seam_after"], "train")


def test_row_groups_stay_small_with_large_images() -> None:
    store, size = new_run(), 20_000_000
    for body in range(5):
        item = montage(body, 1)
        commit(store, item)
        record = store.read_commit(item.item_id)
        data = os.urandom(size)
        store.storage.put(record["files"]["image"]["key"], data)
        digest = hashlib.sha256(data).hexdigest()
        record["files"]["image"] |= {"sha256": digest, "bytes": size}
        key = next(k for k in store.storage.list("commits") if item.item_id in k)
        store.storage.put(key, json.dumps(record).encode())
    (written,) = one(store, "parquet")
    metadata = pq.read_metadata(io.BytesIO(store.storage.get(written.key)))
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    assert sum(group.num_rows for group in groups) == 5
    assert max(group.total_byte_size for group in groups) < 100_000_000


def test_a_tar_holds_the_images_and_rows_side_by_side() -> None:
    store = new_run()
    names = ["a.b-c", "plain", "x" * 128]
    for name in names:
        item = montage(1, 2)
        commit(store, dataclasses.replace(item, item_id=name))
    tar, sidecar = one(store, "webdataset")
    with tarfile.open(fileobj=io.BytesIO(store.storage.get(tar.key))) as file:
        members = file.getmembers()
        keys = ["a%2Eb-c", "plain", "x" * 128]
        assert [m.name for m in members] == [f"{k}.{e}" for k in keys for e in ("png", "json")]
        for name, key in zip(names, keys, strict=True):
            assert _content(file, f"{key}.png") == png_of(store, name)
            assert json.loads(_content(file, f"{key}.json"))["item_id"] == name
    assert sidecar.key == tar.key.replace(".tar", ".parquet")
    rows = table(store, sidecar.key).to_pylist()
    assert [(row["key"], row["item_id"]) for row in rows] == list(zip(keys, names, strict=True))


def _content(file: tarfile.TarFile, name: str) -> bytes:
    member = file.extractfile(name)
    assert member is not None
    return member.read()


def test_jsonl_names_the_files_by_their_keys(store: RunStore) -> None:
    (written,) = one(store, "jsonl")
    rows = [json.loads(line) for line in store.storage.get(written.key).splitlines()]
    assert [row["item_id"] for row in rows] == sorted(store.committed())
    for row in rows:
        assert row["files"] == store.read_commit(row["item_id"])["files"]
        data = store.storage.get(row["image_key"])
        assert hashlib.sha256(data).hexdigest() == row["sha256.image"]


def test_what_is_written_is_what_is_said_of_it(store: RunStore) -> None:
    for kind in (*FORMATS, "tables"):
        for written in one(store, kind):
            data = store.storage.get(written.key)
            assert (len(data), hashlib.sha256(data).hexdigest()) == (written.bytes, written.sha256)


# Results and losses


def test_results_have_a_row_for_every_item_in_the_order_of_ids(store: RunStore) -> None:
    chosen = plan(store, where=Where("seam_after < 2"), table_items=3)
    parts = [write(store, shard, chosen)[1] for shard in shards_of(chosen, "tables")]
    assert len(parts) == 3
    written = dataset.merge_results(store.storage, PREFIX, chosen.columns, parts)
    rows = {row["item_id"]: row for row in table(store, written.key).to_pylist()}
    ids = sorted([*store.committed(), *store.quarantined()])
    assert (list(rows), written.rows) == (ids, len(ids))
    assert {i: row["split"] for i, row in rows.items() if row["split"]} == {
        "body0-face1": "train",
        "body1-face1": "train",
    }
    assert rows["body2-face5"]["outcome"] == "quarantined"
    assert (rows["body2-face5"]["reason"], rows["body2-face5"]["face_seed"]) == ("no_face", 5)
    assert (rows["row-000000009"]["reason"], rows["row-000000009"]["seed"]) == ("bad_row", None)
    assert rows["body4-face1"]["outcome"] == "committed"
    assert list(store.storage.list(f"{PREFIX}/parts")) == []


@pytest.mark.parametrize("every", [1, 2, 5])
def test_losses_are_kept_of_every_so_many_steps(store: RunStore, every: int) -> None:
    chosen = plan(store, where=Where("seam_after < 2"))
    (shard,) = shards_of(chosen, "tables")
    losses, _ = write(store, shard, chosen, losses_every=every)
    rows = table(store, losses.key).to_pylist()
    assert list(rows[0]) == ["item_id", "step", "phase", "term", "raw", "weight"]
    assert {row["item_id"] for row in rows} == {"body0-face1", "body1-face1"}
    kept = [step for step in range(6) if step % every == 0]
    assert sorted({row["step"] for row in rows}) == kept
    assert len(rows) == losses.rows == 2 * 4 * len(kept)  # two phases with two terms


# Damage


@pytest.mark.parametrize("kind", ["parquet", "webdataset", "jsonl", "tables"])
@pytest.mark.parametrize("damage", ["cut", "gone", "no commit"])
def test_a_damaged_item_is_left_out_of_its_shard_and_named(
    store: RunStore, kind: Any, damage: str
) -> None:
    chosen = plan(store, formats=(kind,) if kind != "tables" else ("parquet",))
    name = {"jsonl": None, "tables": "losses"}.get(kind, "image")
    key = f"commits/{hh('body3-face1')}/body3-face1.json"
    if damage != "no commit" and name is not None:
        key = store.read_commit("body3-face1")["files"][name]["key"]
    data = store.storage.get(key)
    store.storage.delete(key)
    if damage == "cut":
        store.storage.put(key, data[:-1])
    (shard,) = shards_of(chosen, kind)
    done = dataset.write(Job(store.storage.uri, PREFIX, chosen.columns, 1, shard))
    assert list(done.damaged) == ["body3-face1"]
    assert key in done.damaged["body3-face1"]
    rows = 5 if kind != "tables" else 5 + 2  # results have a row for what was set aside too
    assert done.files[-1].rows == rows


def test_what_is_found_damaged_while_it_is_packed_is_in_no_shard(store: RunStore) -> None:
    chosen = plan(store, formats=tuple(FORMATS))
    chosen.leave_out({"body3-face1": "damaged"})
    assert chosen.counts == {"train": 5}
    assert (chosen.committed, chosen.left_out) == (5, 0)
    assert not any("body3-face1" in shard.ids for shard in chosen.shards())
    assert all(len(shard.splits) == len(shard.ids) for shard in shards_of(chosen, "tables"))


def test_commits_and_records_that_cannot_be_read_are_left_out_of_the_plan(store: RunStore) -> None:
    record = next(store.storage.list("quarantine"))
    for key in (f"commits/{hh('body3-face1')}/body3-face1.json", record):
        store.storage.put(key, b"{}")
    chosen = plan(store)
    assert len(chosen.damaged) == 2
    assert chosen.items == 5
    assert sum(chosen.reasons.values()) == 1


def test_packed_items_that_began_at_pictures_are_counted_by_their_note() -> None:
    store = new_run()
    for number in range(30):
        face = Source("image", "f.png") if number else Source("seed", 1)
        note = {"consent_note": f"form {min(number, 25)}"} if number % 2 else {}
        commit(store, new_item(f"i{number}", Source("seed", 1), {"face": face}, meta=note))
    consent = plan(store).consent
    assert consent.total() == 29
    assert (consent[""], consent["form 3"]) == (14, 1)
