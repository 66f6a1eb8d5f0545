"""A dataset of what a run has committed: how one shard of it is written.

One shard is one job: `write` reads its items one after the other (a few ahead) into a file on this
machine's disk, which then goes to the store; neither memory nor what travels between processes
grows with the number of items. Images are copied byte for byte, and checked against their commit.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq

from insetgan_batch.data import results, shards, tables
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.formats import FORMATS, Format
from insetgan_batch.data.shards import Shard
from insetgan_batch.data.storage import Storage, open_storage, scratch_file
from insetgan_batch.data.stored import Commit
from insetgan_batch.data.tables import Columns
from insetgan_batch.errors import DamagedError

ROOT = "dataset"
LATEST = f"{ROOT}/latest.json"
SUCCESS = "_SUCCESS"
PARTS = "parts"
_MB = 1_000_000
_ROW_GROUP_BYTES = 32 * _MB
_ROW_GROUP = 1_000
_LOSSES_ROW_GROUP = 200_000
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A shard, where it goes, and all that it takes to write it on any machine."""

    out_uri: str
    prefix: str
    columns: Columns
    losses_every: int
    shard: Shard


@dataclasses.dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file of the dataset. key: in the run's store; rows: items, or steps for losses."""

    key: str
    sha256: str
    bytes: int
    rows: int


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """A job that has been done. damaged: items that it has left out, and what is wrong of each."""

    files: list[WrittenFile]
    damaged: dict[str, str]


def write(job: Job) -> Done:
    """Write one shard, and what belongs to it; again after a failure, and it is the same.

    Items of which a file is not what their commit says are left out. Raises `StorageError`.
    """
    store = RunStore(open_storage(job.out_uri))
    writers: dict[str, Callable[[RunStore, Job, dict[str, str]], list[WrittenFile]]] = {
        "parquet": _write_parquet,
        "webdataset": _write_webdataset,
        "jsonl": _write_jsonl,
        "tables": _write_tables,
    }
    damaged: dict[str, str] = {}
    return Done(writers[job.shard.kind](store, job, damaged), damaged)


def merge_results(
    storage: Storage, prefix: str, columns: Columns, parts: Sequence[WrittenFile]
) -> WrittenFile:
    """`results.parquet` from its parts, in their order; the parts are removed."""
    with scratch_file() as file:
        with _TableWriter(file, tables.results_schema(columns)) as table:
            for part in parts:
                with scratch_file() as source:
                    storage.read_into(part.key, source)
                    source.seek(0)
                    for batch in pq.ParquetFile(source).iter_batches(_ROW_GROUP):
                        table.write(pa.Table.from_batches([batch], table.schema))
        written = put(storage, f"{prefix}/results.parquet", file, sum(part.rows for part in parts))
    for part in parts:
        storage.delete(part.key)
    return written


def put(storage: Storage, key: str, file: BinaryIO, rows: int) -> WrittenFile:
    """Store a whole file, whose position is its end."""
    size = file.tell()
    file.seek(0)
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(0)
    storage.put_from(key, file)
    return WrittenFile(key, sha256, size, rows)


def _write_parquet(store: RunStore, job: Job, damaged: dict[str, str]) -> list[WrittenFile]:
    """Rows with an `image` that Hugging Face's `datasets` knows for one."""
    feature = {"info": {"features": {"image": {"_type": "Image"}}}}
    image = pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    schema = pa.schema(
        [image, *tables.item_schema(job.columns)], {"huggingface": json.dumps(feature)}
    )
    with scratch_file() as file:
        with _TableWriter(file, schema) as table:
            for record, png in _items(store, job.shard.ids, damaged):
                path = f"{record['item_id']}.png"
                row = {"image": {"bytes": png, "path": path}}
                table.add(row | tables.item_row(record, job.shard.split), len(png))
        key = f"{_folder(job)}/{job.shard.name}.parquet"
        return [put(store.storage, key, file, len(job.shard.ids) - len(damaged))]


def _write_webdataset(store: RunStore, job: Job, damaged: dict[str, str]) -> list[WrittenFile]:
    """A tar of `<key>.png` and `<key>.json`, and beside it the rows as Parquet."""
    schema = tables.item_schema(job.columns).insert(0, pa.field("key", pa.string()))
    name = f"{_folder(job)}/{job.shard.name}"
    with scratch_file() as tar, scratch_file() as file:
        with _TableWriter(file, schema) as table:
            for record, png in _items(store, job.shard.ids, damaged):
                key = record["item_id"].replace(".", "%2E")  # a dot would end the key
                row = tables.item_row(record, job.shard.split)
                _add_member(tar, f"{key}.png", png)
                _add_member(tar, f"{key}.json", _json(row))
                table.add({"key": key} | row, 0)
        tar.write(bytes(2 * tarfile.BLOCKSIZE))
        rows = len(job.shard.ids) - len(damaged)
        return [
            put(store.storage, f"{name}.tar", tar, rows),
            put(store.storage, f"{name}.parquet", file, rows),
        ]


def _write_jsonl(store: RunStore, job: Job, damaged: dict[str, str]) -> list[WrittenFile]:
    """The rows, and where the files of each item are: keys, from the root of the run."""
    with scratch_file() as file:
        for record in _sound(store.read_commit, job.shard.ids, damaged):
            row = tables.item_row(record, job.shard.split)
            file.write(_json(row | {"files": record["files"]}) + b"\n")
        key = f"{_folder(job)}/{job.shard.name}.jsonl"
        return [put(store.storage, key, file, len(job.shard.ids) - len(damaged))]


def _write_tables(store: RunStore, job: Job, damaged: dict[str, str]) -> list[WrittenFile]:
    """The losses of the items that are packed, and a part of the results of all."""
    shard = job.shard
    with scratch_file() as losses_file, scratch_file() as results_file:
        with (
            _TableWriter(losses_file, tables.LOSSES_SCHEMA) as losses,
            _TableWriter(results_file, tables.results_schema(job.columns)) as rows,
        ):
            steps = _fill_tables(store, job, losses, rows, damaged)
        count = len(shard.ids) - len(damaged) + len(shard.quarantined)
        part = f"{job.prefix}/{PARTS}/results-{shard.number:05d}.parquet"
        return [
            put(store.storage, f"{job.prefix}/losses/{shard.name}.parquet", losses_file, steps),
            put(store.storage, part, results_file, count),
        ]


def _fill_tables(
    store: RunStore, job: Job, losses: _TableWriter, rows: _TableWriter, damaged: dict[str, str]
) -> int:
    """Both tables of a shard; returns the rows of the losses."""
    shard, steps = job.shard, 0
    set_aside = collections.deque(shard.quarantined)
    split_of_id = dict(zip(shard.ids, shard.splits, strict=True))
    read = functools.partial(_losses, store)
    for record, table in _sound(read, shard.ids, damaged):
        split = split_of_id[record["item_id"]]
        while set_aside and set_aside[0]["item_id"] < record["item_id"]:
            rows.add(set_aside.popleft(), 0)
        weighted = {} if table is None else tables.weighted(record, table)
        rows.add(tables.item_row(record, split) | weighted, 0)
        if table is not None and split is not None:
            kept = tables.loss_rows(record["item_id"], table, job.losses_every)
            losses.gather(kept)
            steps += kept.num_rows
    for row in set_aside:
        rows.add(row, 0)
    return steps


def _items(
    store: RunStore, ids: Sequence[str], damaged: dict[str, str]
) -> Iterator[tuple[Commit, bytes]]:
    """(commit record, the image's bytes) of each sound item, in the order of the ids."""

    def read(item_id: str) -> tuple[Commit, bytes]:
        record = store.read_commit(item_id)
        return record, results.read_file(store, record, "image")

    return _sound(read, ids, damaged)


def _losses(store: RunStore, item_id: str) -> tuple[Commit, results.LossTable | None]:
    record = store.read_commit(item_id)
    return record, results.read_losses(store, record)


def _sound(read: Callable[[str], _T], ids: Sequence[str], damaged: dict[str, str]) -> Iterator[_T]:
    """`read` of each id in their order; what is damaged goes there instead."""
    answers = shards.ahead(functools.partial(shards.or_damage_of, read), ids)
    for item_id, answer in zip(ids, answers, strict=True):
        if isinstance(answer, DamagedError):
            damaged[item_id] = str(answer)
        else:
            yield answer


class _TableWriter:
    """Rows on their way to Parquet; a row group in memory."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self.schema = schema
        plain = [field.name for field in schema if field.name != "image"]
        codecs = dict.fromkeys(plain, "zstd")
        if "image" in schema.names:
            # A PNG is compressed already, and no two are equal.
            codecs |= {"image.bytes": "none", "image.path": "zstd"}
        self._writer = pq.ParquetWriter(
            file, schema, compression=codecs, use_dictionary=plain, write_statistics=plain
        )
        self._rows: list[dict[str, Any]] = []
        self._gathered: list[pa.Table] = []
        self._size_bytes = self._gathered_rows = 0

    def add(self, row: dict[str, Any], image_bytes: int) -> None:
        """One row; columns that it has not are null."""
        self._rows.append(row)
        self._size_bytes += image_bytes
        if len(self._rows) == _ROW_GROUP or self._size_bytes >= _ROW_GROUP_BYTES:
            self._flush()

    def gather(self, table: pa.Table) -> None:
        """Some rows, which become a row group together with others."""
        self._gathered.append(table)
        self._gathered_rows += table.num_rows
        if self._gathered_rows >= _LOSSES_ROW_GROUP:
            self._flush()

    def write(self, table: pa.Table) -> None:
        """A row group."""
        self._writer.write_table(table)

    def __enter__(self) -> _TableWriter:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Write what is left, and the footer."""
        if error is None:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self.write(pa.Table.from_pylist(self._rows, self.schema))
        if self._gathered:
            self.write(pa.concat_tables(self._gathered).combine_chunks())
        self._rows, self._gathered = [], []
        self._size_bytes = self._gathered_rows = 0


def _add_member(tar: BinaryIO, name: str, data: bytes) -> None:
    """By hand: a `TarFile` keeps what it knows of each member until its end."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.write(info.tobuf(tarfile.GNU_FORMAT))
    tar.write(data)
    tar.write(bytes(-len(data) % tarfile.BLOCKSIZE))


def _folder(job: Job) -> str:
    return f"{job.prefix}/{FORMATS[cast(Format, job.shard.kind)].folder}"


def _json(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, allow_nan=False, ensure_ascii=False).encode()
