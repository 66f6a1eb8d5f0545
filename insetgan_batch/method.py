"""What a run knows of a method: the rows that it reads, and the numbers that it measures.

No torch, no Ray and no pyarrow in here: driver, packer and page import it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from insetgan_batch.records import Item

Kind = Literal["seed", "picture", "file", "fraction", "box"]
URIS: frozenset[Kind] = frozenset({"picture", "file"})
"""The kinds whose values are URIs, relative to the manifest."""


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column of a manifest.

    kind: "seed" (0..2^32 - 1), "picture" or "file" (a URI), "fraction" (0..1) or "box"
    ([x0, y0, x1, y1] in pixels). one_of: of the columns with the same text only one may be
    given in a row. noun: what errors call a value. refused: why this run has no such column, though
    others have.
    """

    kind: Kind
    one_of: str = ""
    noun: str = ""
    refused: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Schema:
    """The rows of a manifest, beside `item_id`, `seed`, `overrides` and `meta_*`.

    columns: by name. seeds: what `seeds:NAME=0-9` may name, and the column that it fills; the first
    one is meant where no name is given. seed_id: the id of a row of such seeds, by name. identity:
    what decides the result of an item, as JSON: an item without an id is called by its sha256.
    """

    columns: Mapping[str, Column]
    seeds: Mapping[str, str]
    seed_id: Callable[[Mapping[str, int | str]], str]
    identity: Callable[[Item], Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class Measure:
    """A number of a result. It is in the commit and in `results.parquet`, a label of the metric
    `insetgan_item_measure`, a column of the page, and a name for `--where`.

    name: one that ends with `.*` stands for all that begin like it, which differ from item to item.
    is_whole: a count. tolerance: by how much of itself it may differ when an item is made again;
    None where it is not compared.
    """

    name: str
    about: str
    is_whole: bool = False
    tolerance: float | None = None

    def names(self, measure: str) -> bool:
        """Whether it is this one, or one of these."""
        return measure == self.name or (
            self.name.endswith(".*") and measure.startswith(self.name[:-1])
        )
