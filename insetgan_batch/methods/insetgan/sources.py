"""Where each generator starts, as a row says it: `<generator>_seed`, `_image`, `_latent`, `_psi`,
`_box`, for the canvas and each inset.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from insetgan_batch.method import Column, Schema
from insetgan_batch.records import Item

CANVAS = "canvas"
Kind = Literal["average", "seed", "image", "latent"]
_GIVEN: tuple[Kind, ...] = ("seed", "image", "latent")


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """Where one generator starts and what it is held to.

    kind: "seed" (an int), "image" or "latent" (a URI), "average" (the generator's w_avg; no value).
    psi: truncation of a seed, None for the recipe's. box: where the part is in the image that it
    starts from, (x0, y0, x1, y1) in pixels; None for the detector to find out.
    """

    kind: Kind = "average"
    value: int | str | None = None
    psi: float | None = None
    box: tuple[float, float, float, float] | None = None


def schema(insets: Sequence[str]) -> Schema:
    """The rows of a manifest. insets: the names that the recipe knows."""
    generators = (CANVAS, *insets)
    columns: dict[str, Column] = {}
    for name in generators:
        columns |= {
            f"{name}_seed": Column("seed", one_of=name),
            f"{name}_image": Column("picture", one_of=name),
            f"{name}_latent": Column("file", one_of=name),
            f"{name}_psi": Column("fraction", noun="truncation"),
            f"{name}_box": Column("box"),
        }
    if len(insets) > 1:
        columns[f"{CANVAS}_box"] = Column(
            "box",
            refused=f"does not say which of the insets {', '.join(insets)} it is for; leave it out,"
            " and let `detector` find each of them",
        )
    seeds = {name: f"{name}_seed" for name in generators}
    return Schema(columns, seeds, seed_id, lambda item: _identity(item, insets))


def seed_id(seeds: Mapping[str, int | str]) -> str:
    """The id of a row of seeds, by generator: `body12-face7`, or `seed12` for the canvas alone."""
    if seeds.keys() == {CANVAS}:
        return f"seed{seeds[CANVAS]}"
    return "-".join(f"{'body' if name == CANVAS else name}{seed}" for name, seed in seeds.items())


def of(inputs: Mapping[str, Any], insets: Iterable[str]) -> dict[str, Source]:
    """The source of every generator, the canvas first; "average" where a row gives nothing."""
    return {name: _source(inputs, name) for name in (CANVAS, *insets)}


def given(inputs: Mapping[str, Any]) -> dict[str, Source]:
    """The sources of the generators that a row names, the canvas first, then in its order."""
    endings = tuple(f"_{ending}" for ending in (*_GIVEN, "psi", "box"))
    named = (name.rpartition("_")[0] for name in inputs if name.endswith(endings))
    return of(inputs, [name for name in dict.fromkeys(named) if name != CANVAS])


def inputs_of(sources: Mapping[str, Source]) -> dict[str, Any]:
    """The columns of a row with these sources; ValueError for one without its value."""
    inputs: dict[str, Any] = {}
    for name, source in sources.items():
        if source.kind != "average":
            if source.value is None:
                raise ValueError(f"{name}: kind {source.kind} without a value")
            inputs[f"{name}_{source.kind}"] = source.value
        if source.psi is not None:
            inputs[f"{name}_psi"] = source.psi
        if source.box is not None:
            inputs[f"{name}_box"] = list(source.box)
    return inputs


def new_item(
    item_id: str, canvas: Source, insets: Mapping[str, Source] | None = None, **others: Any
) -> Item:
    """An item with these sources. others: further fields of the item."""
    return Item(item_id, inputs_of({CANVAS: canvas, **(insets or {})}), **others)


def _source(inputs: Mapping[str, Any], name: str) -> Source:
    kind: Kind = next((kind for kind in _GIVEN if f"{name}_{kind}" in inputs), "average")
    box = inputs.get(f"{name}_box")
    return Source(
        kind,
        inputs.get(f"{name}_{kind}"),
        inputs.get(f"{name}_psi"),
        None if box is None else tuple(box),
    )


def _identity(item: Item, insets: Sequence[str]) -> dict[str, Any]:
    sources = {name: dataclasses.asdict(source) for name, source in of(item.inputs, insets).items()}
    return {
        CANVAS: sources.pop(CANVAS),
        "insets": sources,
        "seed": item.seed,
        "overrides": item.overrides,
    }
