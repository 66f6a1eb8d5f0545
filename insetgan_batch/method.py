"""What a run knows of a method: the rows that it reads, the numbers that it measures, and the batch
that does its work.

No torch, no Ray and no pyarrow in here: driver, packer and page import it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import torch

    from insetgan_batch.config import RunConfig
    from insetgan_batch.data.results import Result
    from insetgan_batch.errors import ItemError
    from insetgan_batch.records import Item, Lease

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


class Method(Protocol):
    """A method as driver, packer and page know it: the module `methods/<name>/method.py`."""

    MEASURES: Sequence[Measure]

    REASONS: Mapping[str, str]
    """Why an item of this method may not be done: code → a few words for people."""

    def rows(self, config: RunConfig) -> Schema:
        """The rows of a run's manifest."""
        ...

    def rows_of_run(self, run: Mapping[str, Any]) -> Schema:
        """The same by its run.json."""
        ...

    def seed_id(self, seeds: Mapping[str, int | str]) -> str:
        """The id of a row of seeds, by name."""
        ...

    def phases(self, config: RunConfig) -> Sequence[str]:
        """Names under which an engine's time is counted."""
        ...

    def steps(self, config: RunConfig) -> int:
        """The most that one item takes; 1 where a network is run once."""
        ...

    def warnings(self, config: RunConfig) -> Sequence[str]:
        """What may surprise whoever starts such a run, a line each."""
        ...

    def with_models(self, config: RunConfig, names: Mapping[str, str]) -> RunConfig:
        """The configuration with other names for its `models`, which have the same keys."""
        ...

    def load(self, config: RunConfig, device: torch.device) -> Engine:
        """The networks on a device; raises `CheckpointError` or `StorageError`."""
        ...

    def upgrade_commit(self, data: bytes) -> dict[str, Any]:
        """A commit of a version before `measures`, as it is written now."""
        ...

    def upgrade_quarantined(self, data: bytes) -> dict[str, Any]:
        """The same of a record of the quarantine."""
        ...


class Engine(Protocol):
    """A batch of items on one device, with the method's networks. Items never influence each other.

    `prepare` and `save` may be called in any thread, everything else in one. What an item's call
    raises is that item's affair, and leaves the batch as it was.
    """

    capacity: int
    """Items at most that are inside at once."""

    ahead: int
    """Items that are prepared beyond them; 0 where one takes so long that it had better wait for a
    worker that is free.
    """

    @property
    def keys(self) -> list[str]:
        """The items inside, by the keys that they entered with."""
        ...

    def prepare(self, item: Item, read: Callable[[str], bytes]) -> Any:
        """All that the item needs to enter: its files read and decoded, and checked.

        read: URI → bytes. Raises `BadInputError` where the row cannot be done, `StorageError`.
        """
        ...

    def admit(self, key: str, prepared: Any) -> None:
        """Take an item in, between rounds; raises `ItemError`."""
        ...

    def resume(self, key: str, prepared: Any, data: bytes) -> float:
        """Take an item in where `save` left it, on this machine or another; returns its seconds.

        Raises `CheckpointError` for what is no state of this item.
        """
        ...

    def run_round(
        self, on_step: Callable[[], None], on_phase: Callable[[str], None]
    ) -> Sequence[Finished]:
        """Everything once, for all inside; returns what has left.

        on_step: called every step; on_phase: with a name, when that phase has ended.
        """
        ...

    def give_up(self, key: str, error: ItemError) -> None:
        """Let an item leave with that error after the next round."""
        ...

    def state(self, key: str) -> Any:
        """What the item is between two rounds; None where there is nothing to go on from."""
        ...

    def save(self, prepared: Any, state: Any, seconds: float) -> bytes:
        """A state as bytes, for `resume`. seconds: spent on the item so far."""
        ...

    def result(self, finished: Any, lease: Lease, seconds: float) -> Result:
        """What an item leaves that has left without an error."""
        ...

    def trial(self, items: int) -> None:
        """The cheapest round that takes as much memory as any, with so many items."""
        ...


class Finished(Protocol):
    """An item that has left. error: why it cannot be done."""

    @property
    def key(self) -> str: ...

    @property
    def error(self) -> ItemError | None: ...
