"""One demo for each application, with the package's own generators: what `demo --recipe` does.

A demo is a small manifest, and what its configuration says beside the name of its recipe.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from insetgan_batch.errors import ConfigError
from insetgan_batch.methods.insetgan.sources import Source, inputs_of
from insetgan_batch.records import Item

# Chosen for variety; any seed does.
_BODIES = (5, 7, 13)
_FACES = (1, 3, 6, 8)
_SHOES = (3, 15)
# More of one kind, where one is given and the others are wanted.
_MANY = (2, 4, 5, 7, 9, 13)


@dataclasses.dataclass(frozen=True, slots=True)
class Demo:
    """about: one line for people. items: by name of the generator, seeds to combine; None for a
    generator that the manifest says nothing of. fields: of the configuration.
    """

    about: str
    seeds: dict[str, Sequence[int | None]]
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def items(self) -> list[Item]:
        """Everything with everything, the canvas changing fastest."""
        *insets, canvases = (self.seeds[name] for name in (*self.insets, "canvas"))
        return [
            _item(dict(zip((*self.insets, "canvas"), seeds, strict=True)))
            for seeds in itertools.product(*insets, canvases)
        ]

    @property
    def insets(self) -> list[str]:
        """Their names."""
        return [name for name in self.seeds if name != "canvas"]


DEMOS = {
    "montage": Demo("four faces sewn into three bodies", {"canvas": _BODIES, "face": _FACES}),
    "refine_one_way": Demo(
        "a better face for each of four bodies, which stay as they are",
        {"canvas": _MANY[:4], "face": (None,)},
    ),
    "refine": Demo(
        "a better face for each of four bodies, which give way a little",
        {"canvas": _MANY[:4], "face": (None,)},
    ),
    "body_for_face": Demo("six bodies for one face", {"canvas": _MANY, "face": _FACES[1:2]}),
    "face_for_body": Demo("six faces for one body", {"canvas": _BODIES[:1], "face": _MANY}),
    "multi_inset": Demo(
        "two faces and two pairs of shoes sewn into two bodies",
        {"canvas": _BODIES[:2], "face": _FACES[:2], "shoes": _SHOES},
        {
            "insets": {"face": "demo:face", "shoes": "demo:shoes"},
            "detector": {"face": "mtcnn", "shoes": "demo:shoes"},
        },
    ),
    "generate": Demo(
        "a dozen seeds painted by one generator; nothing is optimised",
        {"canvas": range(12)},
        {"insets": {}},
    ),
}


def find(recipe: str) -> Demo:
    """The demo of a recipe; raises `ConfigError`."""
    if recipe not in DEMOS:
        raise ConfigError(f"--recipe {recipe}: no demo; expected one of {', '.join(DEMOS)}")
    return DEMOS[recipe]


def _item(seeds: dict[str, int | None]) -> Item:
    sources = {
        name: Source() if seed is None else Source("seed", seed) for name, seed in seeds.items()
    }
    named = {"body": seeds["canvas"]} | {n: seed for n, seed in seeds.items() if n != "canvas"}
    name = "-".join(f"{part}{seed}" for part, seed in named.items() if seed is not None)
    return Item(name, inputs_of(sources))
