"""A dataset of what a run has committed: which shards there are, and how one is written.

Shards are cut from the sorted ids, so a run that has not changed gives the same shards again. One
shard is one job: `write` reads its items one after the other (a few ahead) into a file on this
machine's disk, which then goes to the store; neither memory nor what travels between processes
grows with the number of items. Images are copied byte for byte, and checked against their commit.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import functools
import hashlib
import itertools
import json
import math
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from insetgan_batch.data import damage, prefetch, results, tables, where
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import Storage, open_storage, scratch_file
from insetgan_batch.data.stored import Commit
from insetgan_batch.data.tables import Columns
from insetgan_batch.data.where import Where
from insetgan_batch.errors import ConfigError, DamagedError
from insetgan_batch.methods import names
from insetgan_batch.records import CONSENT_NOTE

Format = Literal["parquet", "webdataset", "jsonl"]
FORMATS: tuple[Format, ...] = ("parquet", "webdataset", "jsonl")
FOLDERS = {"parquet": "data", "webdataset": "webdataset", "jsonl": "jsonl"}
ROOT = "dataset"
LATEST = f"{ROOT}/latest.json"
SUCCESS = "_SUCCESS"
PARTS = "parts"

_MB = 1_000_000
# Of the images, and so much for the rest of each item. Hugging Face asks for Parquet shards below
# 500 MB and row groups below 100 MB, of which a reader holds one in memory.
_SHARD_BYTES: dict[Format, int] = {
    "parquet": 400 * _MB,
    "webdataset": 1_000 * _MB,
    "jsonl": 1_000 * _MB,
}
_ROW_BYTES = 4_000
_ROW_GROUP_BYTES = 32 * _MB
_ROW_GROUP = 1_000
_TABLE_ITEMS = 2_000  # in one file of losses: some million rows
_LOSSES_ROW_GROUP = 200_000
_READERS = 8  # requests in flight in a job, and items in its memory
_LEFT_OUT = 255
_MOST_NOTES = 20  # of consent, in the card
_OTHER_NOTES = "other notes, see the column meta"
_SPLIT = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}", re.ASCII)
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True, slots=True)
class PackSettings:
    """What a dataset shall be.

    splits: name to share, the shares' sum 1; an item's split follows from its id alone.
    losses_every: keep the losses of every so many steps. shard_bytes: where a new shard begins;
    table_items: how many share a file of losses.
    """

    formats: tuple[Format, ...] = ("parquet",)
    where: Where | None = None
    splits: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"train": 1.0})
    losses_every: int = 1
    shard_bytes: Mapping[Format, int] = dataclasses.field(default_factory=_SHARD_BYTES.copy)
    table_items: int = _TABLE_ITEMS


@dataclasses.dataclass(frozen=True, slots=True)
class Shard:
    """The items of one file. kind: a format, or "tables" for losses and a part of the results.

    ids: sorted. splits: of each id where they differ ("tables"; None: left out). quarantined: rows
    of the results that are no commits.
    """

    kind: Format | Literal["tables"]
    split: str
    number: int
    count: int
    ids: list[str]
    splits: list[str | None] = dataclasses.field(default_factory=list)
    quarantined: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def name(self) -> str:
        """`train-00000-of-00012`."""
        return f"{self.split}-{self.number:05d}-of-{self.count:05d}"


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


# ---- which shards ------------------------------------------------------------------------------


class ShardPlan:
    """The shards of a run as it stands now; ids and one byte each in memory, no records."""

    def __init__(self, store: RunStore, settings: PackSettings) -> None:
        """Reads every commit once. Raises `ConfigError` where nothing is left to pack."""
        self._settings, self._names = settings, list(settings.splits)
        # Items that are left out for it, and what is wrong with each.
        self.damaged: dict[str, str] = {}
        committed = store.committed()
        self._quarantined = self._set_aside(store, store.quarantined() - committed)
        self._ids = sorted(committed)
        del committed  # a set of a million ids weighs as much as they do
        self._split = bytearray([_LEFT_OUT]) * len(self._ids)
        self._cuts: dict[tuple[Format, str], list[int]] = {}
        self.counts = dict.fromkeys(self._names, 0)
        self.image_bytes = 0
        # Packed items that began at pictures, by what their rows say of consent; "" for nothing.
        self.consent: collections.Counter[str] = collections.Counter()
        run = store.read_run()
        method = names.of_run(run)
        schema = method.rows_of_run(run)
        self._pictures = {n for n, c in schema.columns.items() if c.kind == "picture"}
        self.columns = self._read(store, tables.Collector(schema, method.MEASURES))
        if not self.items:
            why = "no item is committed yet"
            if self.damaged:
                why = f"{len(self.damaged)} items are damaged: {next(iter(self.damaged.values()))}"
            elif settings.where is not None and self._ids:
                why = f"none of {self.committed} committed items meets {settings.where.text!r}"
            raise ConfigError(f"{store.storage.uri}: nothing to pack: {why}")

    @property
    def items(self) -> int:
        """How many are packed."""
        return sum(self.counts.values())

    @property
    def committed(self) -> int:
        """Items with a sound commit, packed or left out."""
        return sum(item_id not in self.damaged for item_id in self._ids)

    @property
    def left_out(self) -> int:
        """Committed items that do not meet the condition."""
        return sum(
            code == _LEFT_OUT and item_id not in self.damaged
            for item_id, code in zip(self._ids, self._split, strict=True)
        )

    @property
    def reasons(self) -> dict[str, int]:
        """Why items were set aside, and how many for each reason."""
        rows = self._quarantined.values()
        return dict(sorted(collections.Counter(str(row["reason"]) for row in rows).items()))

    def leave_out(self, damaged: Mapping[str, str]) -> None:
        """Pack without these items, each with what is wrong of it."""
        for item_id in damaged.keys() - self.damaged.keys():
            code = self._split[bisect.bisect_left(self._ids, item_id)]
            if code != _LEFT_OUT:
                self.counts[self._names[code]] -= 1
        self.damaged |= damaged

    def shards(self) -> Iterator[Shard]:
        """Those of the tables first; the ids of one shard after the other are made on the way."""
        yield from self._table_shards()
        for (kind, split), cuts in self._cuts.items():
            code, edges = self._names.index(split), [0, *cuts, len(self._ids)]
            for number, (start, stop) in enumerate(itertools.pairwise(edges)):
                ids = [self._ids[i] for i in range(start, stop) if self._split[i] == code]
                ids = [item_id for item_id in ids if item_id not in self.damaged]
                yield Shard(kind, split, number, len(edges) - 1, ids)

    def _read(self, store: RunStore, collector: tables.Collector) -> Columns:
        sizes: dict[tuple[Format, str], int] = {}
        known: set[str] = set()
        read_sound = functools.partial(damage.read_sound, store)
        read = _ahead(functools.partial(_or_damage, read_sound), self._ids)
        for index, record in enumerate(read):
            if isinstance(record, DamagedError):
                self.damaged[self._ids[index]] = str(record)
                continue
            collector.see(record)
            row = tables.item_row(record, None)
            if self._settings.where is not None:
                values = where.flat(record) | where.flat(record["facts"]) | row
                known |= values.keys()
                if not self._settings.where.holds(values, record["item_id"]):
                    continue
            self._take(index, record["files"]["image"]["bytes"], sizes)
            self._count_pictures(record["item"])
        if self._settings.where is not None and self._ids:
            self._settings.where.check_known(known)
        return collector.columns

    def _set_aside(self, store: RunStore, item_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Rows of the results by item id."""
        rows = {}
        for item_id, record in store.quarantine_records(sorted(item_ids)):
            if isinstance(record, DamagedError):
                self.damaged[item_id] = str(record)
            else:
                rows[item_id] = tables.quarantined_row(record)
        return rows

    def _count_pictures(self, item: Mapping[str, Any]) -> None:
        if item["inputs"].keys() & self._pictures:
            note = str(item.get("meta", {}).get(CONSENT_NOTE) or "")
            is_new = note and note not in self.consent and len(self.consent) >= _MOST_NOTES
            self.consent[_OTHER_NOTES if is_new else note] += 1

    def _take(self, index: int, image_bytes: int, sizes: dict[tuple[Format, str], int]) -> None:
        """An item into its split, and into a new shard of each format where the old one is full."""
        split = split_of(self._ids[index], self._settings.splits)
        self._split[index] = self._names.index(split)
        self.counts[split] += 1
        self.image_bytes += image_bytes
        for kind in self._settings.formats:
            cuts = self._cuts.setdefault((kind, split), [])
            own = _ROW_BYTES + (0 if kind == "jsonl" else image_bytes)
            size = sizes.get((kind, split), 0)
            if size and size + own > self._settings.shard_bytes[kind]:
                cuts.append(index)
                size = 0
            sizes[kind, split] = size + own

    def _table_shards(self) -> Iterator[Shard]:
        rows = self._ids
        if self._quarantined:
            rows = sorted([*self._ids, *self._quarantined])
        size = self._settings.table_items
        count = -(-len(rows) // size)
        done = 0
        for number in range(count):
            part = rows[number * size : (number + 1) * size]
            set_aside = [self._quarantined[i] for i in part if i in self._quarantined]
            stop = done + len(part) - len(set_aside)
            sound = [i for i in range(done, stop) if self._ids[i] not in self.damaged]
            codes = [self._split[i] for i in sound]
            splits = [None if code == _LEFT_OUT else self._names[code] for code in codes]
            done = stop
            ids = [self._ids[i] for i in sound]
            yield Shard("tables", "losses", number, count, ids, splits, set_aside)


def parse_formats(names: Iterable[str]) -> tuple[Format, ...]:
    """The formats of these names, each once; raises `ConfigError`."""
    wanted = list(names)
    if unknown := sorted(set(wanted) - set(FORMATS)):
        raise ConfigError(f"--format {unknown[0]!r}: expected one of {', '.join(FORMATS)}")
    return tuple(name for name in FORMATS if name in wanted)


def parse_splits(text: str) -> dict[str, float]:
    """`train=0.9,test=0.1` as shares by name; raises `ConfigError`."""
    splits: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        try:
            value = float(share)
        except ValueError as err:
            raise _wrong_splits(text, f"{part!r} is no `name=share`") from err
        if not _SPLIT.fullmatch(name.strip()) or name.strip() in splits:
            raise _wrong_splits(text, f"{name!r} is no new name of letters, digits and _")
        if not 0 < value <= 1:
            raise _wrong_splits(text, f"the share of {name} is {share}")
        splits[name.strip()] = value
    if not math.isclose(sum(splits.values()), 1):
        raise _wrong_splits(text, f"the shares' sum is {sum(splits.values()):g}")
    return splits


def _wrong_splits(text: str, why: str) -> ConfigError:
    return ConfigError(
        f"--split {text!r}: {why}; expected shares above 0 whose sum is 1, like train=0.9,test=0.1"
    )


def split_of(item_id: str, splits: Mapping[str, float]) -> str:
    """The split of an item; salted, since `--sample` draws by the plain hash of the id."""
    digest = hashlib.sha256(f"split:{item_id}".encode()).digest()
    drawn = int.from_bytes(digest[:8]) / 2**64
    bound = 0.0
    for name, share in splits.items():
        bound += share
        if drawn < bound:
            return name
    return list(splits)[-1]


# ---- one shard ---------------------------------------------------------------------------------


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
    answers = _ahead(functools.partial(_or_damage, read), ids)
    for item_id, answer in zip(ids, answers, strict=True):
        if isinstance(answer, DamagedError):
            damaged[item_id] = str(answer)
        else:
            yield answer


def _or_damage(read: Callable[[str], _T], item_id: str) -> _T | DamagedError:
    return damage.or_damage(lambda: read(item_id))


def _ahead(read: Callable[[str], _T], ids: Sequence[str]) -> Iterator[_T]:
    """`read` of each id in their order, a few at a time in threads."""
    return prefetch.in_order((functools.partial(read, i) for i in ids), _READERS, _READERS)


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
    return f"{job.prefix}/{FOLDERS[job.shard.kind]}"


def _json(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, allow_nan=False, ensure_ascii=False).encode()
