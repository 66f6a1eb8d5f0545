"""Seeds by their ranges, and manifests that are made of them: nothing is written out.

`0-15,20` names seeds. A manifest may be a text instead of a file: `seeds:0-999999` is one row per
seed of what the method names first, and `seeds:NAME=0-999 OTHER=0-99` every one with every other.
Memory is the same for ten rows and for a hundred million.
"""

from __future__ import annotations

import bisect
import dataclasses
import difflib
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import overload

from insetgan_batch.data.keys import ITEM_ID
from insetgan_batch.errors import ManifestError
from insetgan_batch.method import Schema
from insetgan_batch.records import Item
from insetgan_batch.text import quoted

SCHEME = "seeds:"
MAX_SEED = 2**32 - 1
"""What numpy's RandomState takes."""

_MOST = 100_000_000  # more is a typing error: each one is minutes of a GPU
_PART = re.compile(r"\s*([0-9]{1,10})(?:\s*-\s*([0-9]{1,10}))?\s*")
# Where the next name begins: spaces, its name, an equals sign.
_NEXT = re.compile(r"\s+(?=[^\s=]+\s*=)")


class Seeds(Sequence[int]):
    """Seeds in the order in which they were named; none twice."""

    def __init__(self, ranges: Iterable[range]) -> None:
        self._ranges = tuple(ranges)
        self._ends = tuple(itertools.accumulate(len(part) for part in self._ranges))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[int]:
        return itertools.chain.from_iterable(self._ranges)

    def __contains__(self, seed: object) -> bool:
        return any(seed in part for part in self._ranges)

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> list[int]: ...
    def __getitem__(self, key: int | slice) -> int | list[int]:
        if isinstance(key, slice):
            return [self[i] for i in range(*key.indices(len(self)))]
        index = key + len(self) if key < 0 else key
        if not 0 <= index < len(self):
            raise IndexError(f"seed {key} of {len(self)}")
        part = bisect.bisect_right(self._ends, index)
        return self._ranges[part][index - self._ends[part]]

    def __str__(self) -> str:
        """The same text for the same seeds: rising, and neighbours in one range."""
        joined: list[range] = []
        for part in sorted(self._ranges, key=lambda part: part.start):
            if joined and joined[-1].stop == part.start:
                part = range(joined.pop().start, part.stop)
            joined.append(part)
        return ",".join(f"{p.start}-{p.stop - 1}" if len(p) > 1 else f"{p.start}" for p in joined)


@dataclasses.dataclass(frozen=True, slots=True)
class SeedRows:
    """Every seed of a name with every one of the others. seeds: by name, in the method's order;
    columns: which one each name fills; seed_id: the id of a row of seeds, by name.
    """

    seeds: dict[str, Seeds]
    columns: Mapping[str, str]
    seed_id: Callable[[Mapping[str, int | str]], str]

    def __len__(self) -> int:
        return math.prod(len(seeds) for seeds in self.seeds.values())

    def __iter__(self) -> Iterator[Item]:
        """The first name changes fastest, then the last one."""
        (first, *others) = self.seeds
        fastest_first = [first, *reversed(others)]
        for number in range(len(self)):
            chosen, rest = {}, number
            for name in fastest_first:
                rest, index = divmod(rest, len(self.seeds[name]))
                chosen[name] = self.seeds[name][index]
            row = {name: chosen[name] for name in self.seeds}
            inputs = {self.columns[name]: seed for name, seed in row.items()}
            yield Item(self.seed_id(row), inputs)

    def among(self, ids: Iterable[str]) -> set[str]:
        """Those of the ids that are of these rows."""
        pattern = re.compile(self.seed_id(dict.fromkeys(self.seeds, "(0|[1-9][0-9]*)")))
        found = ((one, pattern.fullmatch(one)) for one in ids)
        return {
            one
            for one, match in found
            if match
            and all(
                int(text) in seeds
                for text, seeds in zip(match.groups(), self.seeds.values(), strict=True)
            )
        }

    def __str__(self) -> str:
        """The same text for the same rows."""
        return SCHEME + " ".join(f"{name}={seeds}" for name, seeds in self.seeds.items())


def parse_seeds(text: str) -> Seeds:
    """Seeds from a text like 0-15,20; ranges include both ends. Raises `ManifestError`."""
    where = f"seeds {quoted(text)}"
    ranges = []
    for part in text.split(","):
        found = _PART.fullmatch(part)
        if not found:
            raise ManifestError(f"{where}: {quoted(part)} is no number or range; expected 0-15,20")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first or last > MAX_SEED:
            raise ManifestError(f"{where}: {quoted(part)} must rise and end by {MAX_SEED}")
        ranges.append(range(first, last + 1))
    rising = sorted(ranges, key=lambda part: part.start)
    for before, after in itertools.pairwise(rising):
        if after.start < before.stop:
            raise ManifestError(f"{where}: {after.start} is named twice; name it once")
    _check_count(where, sum(len(part) for part in ranges))
    return Seeds(ranges)


def parse_rows(uri: str, schema: Schema) -> SeedRows:
    """The rows of a manifest like `seeds:NAME=0-999 OTHER=0-99`; raises `ManifestError`."""
    where = quoted(uri)
    known = tuple(schema.seeds)
    given: dict[str, Seeds] = {}
    parts = _NEXT.split(uri.removeprefix(SCHEME).strip())
    for part in parts:
        name, mark, text = (piece.strip() for piece in part.rpartition("="))
        if not mark and len(parts) == 1:
            name = known[0]
        if name not in known:
            raise ManifestError(f"{where}: {_unknown(name, known)}")
        if name in given:
            raise ManifestError(f"{where}: {name} is named twice; name it once")
        try:
            given[name] = parse_seeds(text)
        except ManifestError as err:
            raise ManifestError(f"{where}: {name}: {err}") from err
    in_order = {name: given[name] for name in known if name in given}
    rows = SeedRows(in_order, schema.seeds, schema.seed_id)
    _check_count(where, len(rows))
    _check_names(where, rows)
    return rows


def parse_kept(text: str, seed_id: Callable[[Mapping[str, int | str]], str]) -> SeedRows:
    """The rows of a text that `str` has made of some; raises `ManifestError`."""
    named = (part.partition("=") for part in text.removeprefix(SCHEME).split())
    return SeedRows({name: parse_seeds(seeds) for name, _, seeds in named}, {}, seed_id)


def _check_count(where: str, count: int) -> None:
    if count > _MOST:
        raise ManifestError(f"{where}: {count} of them, expected at most {_MOST}; name fewer")


def _check_names(where: str, rows: SeedRows) -> None:
    longest = rows.seed_id(dict.fromkeys(rows.seeds, MAX_SEED))
    if not ITEM_ID.fullmatch(longest):
        raise ManifestError(
            f"{where}: {longest!r} is no id, expected {ITEM_ID.pattern}; give it another"
            " name, or write a manifest with item_id"
        )


def _unknown(name: str, known: Sequence[str]) -> str:
    listed = ", ".join(known)
    if not name:
        return f"seeds without a generator; write {known[0]}=0-15, known are {listed}"
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"unknown generator {quoted(name)}{hint}; known are {listed}"
