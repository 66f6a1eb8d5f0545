"""What the page of a run shows of InsetGAN: see `method.Page`."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from insetgan_batch import method
from insetgan_batch.method import Head, LossFamily, Region
from insetgan_batch.methods.insetgan import page_losses, page_settings, sources
from insetgan_batch.methods.insetgan.sources import CANVAS, Source
from insetgan_batch.text import last_part

if TYPE_CHECKING:
    from insetgan_batch.data.stored import Commit

_LEGEND = (
    "Seam: how far the picture jumps at the edge of the pasted region, beyond its own slope, in"
    " levels of 0 to 255. 0 is no seam. Before: the plain copy and paste, which is where the"
    " optimisation starts."
)
_NOTHING_PASTED = "Images of the canvas' generator; there are no insets, so nothing was optimised."


def page(run: Mapping[str, Any]) -> Page:
    """By the insets and the recipe of a run.json."""
    configuration = run.get("configuration", {})
    insets = list(configuration.get("insets", []))
    recipe = configuration.get("recipe")
    return Page(
        name="InsetGAN",
        about=_about(insets) if insets else _NOTHING_PASTED,
        legend=_LEGEND if insets else "",
        settings=page_settings.paragraphs(configuration),
        tables=[] if recipe is None else [page_settings.weights(recipe)],
        before=("copy_paste", "copy and paste"),
        shaded_phase=CANVAS,
        insets=insets,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Page(method.Page):
    """insets: of the run, in their order."""

    insets: Sequence[str] = ()

    def title(self, inputs: Mapping[str, Any]) -> str:
        """`face seed 3 on canvas seed 5`."""
        found = sources.of(inputs, self.insets)
        canvas = f"{CANVAS} {words(found.pop(CANVAS))}"
        return f"{_named(found)} on {canvas}" if found else canvas

    def place(self, inputs: Mapping[str, Any]) -> tuple[Head, Head] | None:
        """The canvas at the left and the insets on top, as in the InsetGAN paper's Figure 7."""
        if not self.insets:
            return None
        found = sources.of(inputs, self.insets)
        canvas = {CANVAS: found.pop(CANVAS)}
        return _head(canvas), _head(found)

    def pictures(self, record: Commit) -> dict[str, dict[str, str]]:
        """What was given, what became of it, and each generator's own picture."""
        found, files = sources.of(record["item"]["inputs"], self.insets), record["files"]
        given = {f"{name}_reference": f"{name}: {words(one)}" for name, one in found.items()}
        result = {"copy_paste": "copy and paste", "image": "result"}
        blocks = {
            "inputs": given,
            "before and after" if "copy_paste" in files else "result": result,
            "generators alone": {name: f"{name}, moved" for name in found},
        }
        kept = {title: {n: c for n, c in of.items() if n in files} for title, of in blocks.items()}
        return {title: pictures for title, pictures in kept.items() if pictures}

    def regions(self, record: Commit) -> dict[str, Region]:
        """By inset, where it was pasted and where it is now."""
        found = {}
        for name in self.insets:
            after, before = (record["facts"].get(f"{name}_region{at}") for at in ("", "_before"))
            if isinstance(after, list) and isinstance(before, list):
                found[name] = Region(after, before)
        return found

    def facts(self, record: Commit) -> list[tuple[str, str | float | None]]:
        """How the optimisation went, and how far each seed was truncated."""
        found = record["facts"]
        psi = {
            name: value
            for name in (CANVAS, *self.insets)
            for value in (found.get(f"{name}_psi"), found.get(f"{name}_psi_per_layer"))
            if value is not None
        }
        course = self._course(record) if record["measures"].get("rounds") else []
        return course + [(f"psi of {name}", str(value)) for name, value in psi.items()]

    def _course(self, record: Commit) -> list[tuple[str, str | float | None]]:
        measures = record["measures"]
        rounds, kept, missed = (
            int(measures.get(name) or 0) for name in ("rounds", "best_round", "missed_detections")
        )
        return [
            ("stopped", f"{self.end(record)} after {rounds} rounds, round {kept} kept"),
            ("score", measures.get("score")),
            ("missed detections", missed),
        ]

    def end(self, record: Commit) -> str:
        """Which condition of the recipe ended it: `max rounds`, `converged`."""
        return str(record["facts"].get("stop", "")).replace("_", " ")

    def loss_families(self, terms: Collection[str]) -> list[LossFamily]:
        """By what is compared."""
        return page_losses.families(terms)


def words(source: Source) -> str:
    """A source in a few words: its seed, or the last part of its URI."""
    if source.kind == "average":
        return "average"
    if source.kind == "seed":
        psi = "" if source.psi is None else f", psi {source.psi:g}"
        return f"seed {source.value}{psi}"
    return last_part(str(source.value))


def _about(insets: Sequence[str]) -> str:
    several = len(insets) > 1
    pasted = "the insets" if several else "the inset"
    return (
        "InsetGAN sets parts into a whole: one generator paints the whole, the canvas,"
        f" {'others' if several else 'another'} the {' and '.join(insets)}, {pasted}, and their"
        f" latents are moved, item by item, until {pasted} can be pasted in without a visible seam."
    )


def _named(found: Mapping[str, Source]) -> str:
    return ", ".join(f"{name} {words(source)}" for name, source in found.items())


def _head(found: Mapping[str, Source]) -> Head:
    key = tuple(_key(source) for source in found.values())
    return Head(key, _named(found), [f"{name}_reference" for name in found])


def _key(source: Source) -> tuple[str, int, str, float]:
    """What tells sources apart and sorts them: seeds as numbers, everything else as text."""
    return (
        source.kind,
        source.value if isinstance(source.value, int) else 0,
        str(source.value),
        -1.0 if source.psi is None else source.psi,
    )
