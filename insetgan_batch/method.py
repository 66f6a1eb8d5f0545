"""What a run knows of a method: the rows that it reads, the numbers that it measures, and the batch
that does its work.

No torch, no Ray and no pyarrow in here: driver, packer and page import it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from insetgan_batch.text import last_part

if TYPE_CHECKING:
    import torch

    from insetgan_batch import config
    from insetgan_batch.data.results import Result
    from insetgan_batch.data.stored import Commit
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
    None where it is not compared. group, title: headings of its column; without a title it is
    called by its name, and with None it has no column. before: the measure of the same before the
    method's work; both medians stand at the head of the page, and the table has their ratio.
    """

    name: str
    about: str
    is_whole: bool = False
    tolerance: float | None = None
    group: str = ""
    title: str | None = ""
    before: str = ""

    def names(self, measure: str) -> bool:
        """Whether it is this one, or one of these."""
        return measure == self.name or (
            self.name.endswith(".*") and measure.startswith(self.name[:-1])
        )


def declared(measures: Sequence[Measure], name: str) -> Measure | None:
    """What a method says of a number, if it says anything."""
    return next((measure for measure in measures if measure.names(name)), None)


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """What the items of a row or a column of the page's grid share.

    key: sorts heads, and tells them apart. files: names of an item's files that show it.
    """

    key: tuple[Any, ...]
    label: str
    files: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Region:
    """A part of an item's picture: [x0, y0, x1, y1] in pixels, and an angle in radians if it is
    turned. before: where it was on the picture that `Page.before` names.
    """

    after: list[float]
    before: list[float] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class LossFamily:
    """Losses that share a chart and a heading of the table. labels: by term, in their order."""

    title: str
    meaning: str
    labels: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class SettingsTable:
    """Settings of a run as a table; the first text of a row is its heading."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """What the page of a run shows that depends on the method. The defaults suit any method.

    name: the method's in headings. about: what it does, in a paragraph. legend: what the numbers at
    the head of the page mean. settings, tables: the run's settings, as paragraphs and as tables.
    before: a file of an item that its result is compared to, and its caption. shaded_phase: the
    phase whose steps are shaded in charts of losses.
    """

    name: str = ""
    about: str = ""
    legend: str = ""
    settings: Sequence[str] = ()
    tables: Sequence[SettingsTable] = ()
    before: tuple[str, str] | None = None
    shaded_phase: str = ""

    def title(self, inputs: Mapping[str, Any]) -> str:
        """What an item is made of, in a few words. inputs: of its row."""
        return ", ".join(
            f"{name.replace('_', ' ')} {last_part(str(value))}" for name, value in inputs.items()
        )

    def place(self, inputs: Mapping[str, Any]) -> tuple[Head, Head] | None:
        """The row and the column of an item; None where items make no grid."""
        return None

    def pictures(self, record: Commit) -> Mapping[str, Mapping[str, str]]:
        """The pictures of an item's own view: captions by file, by heading; `image` is in it."""
        names = [name for name, file in record["files"].items() if file["key"].endswith(".png")]
        others = {name: name.replace("_", " ") for name in names if name != "image"}
        return {"pictures": {"image": "result"} | others}

    def regions(self, record: Commit) -> Mapping[str, Region]:
        """What is marked on the result and shown enlarged, by name."""
        return {}

    def facts(self, record: Commit) -> Sequence[tuple[str, str | float | None]]:
        """What is said in an item's own view: label and value."""
        return [
            (name.replace("_", " "), value)
            for name, value in record["facts"].items()
            if not isinstance(value, list)
        ]

    def end(self, record: Commit) -> str:
        """Why the work on an item ended; empty where all end alike."""
        return ""

    def loss_families(self, terms: Collection[str]) -> Sequence[LossFamily]:
        """The terms by family, in order."""
        return [LossFamily(term, "", {term: term}) for term in sorted(terms)]


@dataclasses.dataclass(frozen=True, slots=True)
class Card:
    """What the card of a dataset says of the method, by a run.json. The defaults suit any method.

    what: the images, in a sentence; how: how they were made, in sentences; limits: what they may be
    wrong for, sentences of a list; tags: for the search of Hugging Face.
    """

    what: str = "Synthetic images."
    how: str = ""
    limits: Sequence[str] = ()
    tags: Sequence[str] = ()


class Method(Protocol):
    """A method as driver, packer and page know it: the module `methods/<name>/method.py`."""

    Settings: type[config.Settings]
    """Its part of a run's configuration: `config.Settings`, or a class derived from it."""

    MEASURES: Sequence[Measure]

    REASONS: Mapping[str, str]
    """Why an item of this method may not be done: code → a few words for people."""

    def rows(self, settings: config.Settings) -> Schema:
        """The rows of a run's manifest."""
        ...

    def rows_of_run(self, run: Mapping[str, Any]) -> Schema:
        """The same by its run.json."""
        ...

    def page(self, run: Mapping[str, Any]) -> Page:
        """What the run's page shows of it, by its run.json; left out, `Page()`."""
        ...

    def card(self, run: Mapping[str, Any]) -> Card:
        """What the card of its datasets says of it; left out, `Card()`."""
        ...

    def phases(self, settings: config.Settings) -> Sequence[str]:
        """Names under which an engine's time is counted."""
        ...

    def steps(self, settings: config.Settings) -> int:
        """The most that one item takes; 1 where a network is run once."""
        ...

    def load(
        self, settings: config.Settings, machine: config.Machine, device: torch.device
    ) -> Engine:
        """The networks on a device; raises `CheckpointError` or `StorageError`."""
        ...


class Engine(Protocol):
    """A batch of items on one device, with the method's networks. Items never influence each other.

    `prepare` and `save` may be called in any thread, everything else in one. What an item's call
    raises is that item's affair, and leaves the batch as it was.
    """

    capacity: int
    """Items at most that are inside at once."""

    @property
    def ahead(self) -> int:
        """Items that are prepared beyond them; 0 where one takes so long that it had better wait
        for a worker that is free.
        """
        ...

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
