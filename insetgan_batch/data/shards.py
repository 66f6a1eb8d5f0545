"""Which shards a dataset has: cut from the sorted ids, so that a run that has not changed gives the
same shards again. Ids and one byte each are in memory, no records.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import functools
import hashlib
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from insetgan_batch.data import damage, prefetch, tables, where
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.formats import FORMATS, Format
from insetgan_batch.data.tables import Columns
from insetgan_batch.data.where import Where
from insetgan_batch.errors import ConfigError, DamagedError
from insetgan_batch.methods import names
from insetgan_batch.records import CONSENT_NOTE

_ROW_BYTES = 4_000  # of an item, beside its image
_TABLE_ITEMS = 2_000  # in one file of losses: some million rows
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
    shard_bytes: Mapping[Format, int] = dataclasses.field(
        default_factory=lambda: {name: layout.shard_bytes for name, layout in FORMATS.items()}
    )
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
        read = ahead(functools.partial(or_damage_of, read_sound), self._ids)
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
            own = _ROW_BYTES + (image_bytes if FORMATS[kind].has_images else 0)
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


def or_damage_of(read: Callable[[str], _T], item_id: str) -> _T | DamagedError:
    return damage.or_damage(lambda: read(item_id))


def ahead(read: Callable[[str], _T], ids: Sequence[str]) -> Iterator[_T]:
    """`read` of each id in their order, a few at a time in threads."""
    return prefetch.in_order((functools.partial(read, i) for i in ids), _READERS, _READERS)
