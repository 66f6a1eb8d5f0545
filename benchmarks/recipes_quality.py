"""What recipes make of the same pairs: the default, the published programs, the paper's terms.

    python benchmarks/recipes_quality.py [--pairs 20] [--first-seed 5000] [--recipes default,sgh]
                                         [--out benchmarks/results/recipes_quality.json]

Pairs of the demo's generators: the body of seed s and the face of seed s + 100000, where MTCNN
finds the face in both, at the default's truncation for every recipe. Everything is measured on the
final pictures by one function that knows no recipe's weights; the region and the face's box are
those that the result was pasted with:

    seam         compose.seam of the composite, levels of 0..255
    coarse       L1 of the canvas' crop to the inset, both at 64 px, in the range -1..1
    identity_l1  L1 of the inset to its reference, inside the face's box
    body_change  L1 of the canvas to its reference, outside of the region

Published recipes are for larger pictures: here they compare at the inset's own size at most, and
their truncations per layer are left out. Results go into the JSON file; a later call with other
pairs or recipes adds to it and replaces what a changed recipe or generator has left there. Prints a
table: medians over the pairs that all recipes of the file have, and in how many the default is
better.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import math
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import surroundings
import torch
import yaml
from torch import Tensor

from insetgan_batch.data import inputs, models
from insetgan_batch.methods.insetgan import compose, images, losses, objective
from insetgan_batch.methods.insetgan import recipe_variants as recipes
from insetgan_batch.methods.insetgan.prepare import Preparer
from insetgan_batch.methods.insetgan.recipe import CANVAS, Recipe
from insetgan_batch.methods.insetgan.slots import SlotOptimizer
from insetgan_batch.methods.insetgan.sources import Source, new_item
from insetgan_batch.methods.insetgan.states import Finished
from insetgan_batch.nets.detector import (
    SMALLEST_FACE_OF_CANVAS,
    SMALLEST_FACE_OF_INSET,
    FaceDetector,
)
from insetgan_batch.nets.devices import best_device
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.perceptual import Perceptual
from insetgan_batch.records import Item

_FACE = "face"
_DEFAULT, _PASTED, _ONE_WAY = "default", "copy-and-paste", "refine_one_way"
_PUBLISHED = ("official-1", "official-2", "sgh", "paper")
_RECIPES = (_PASTED, _ONE_WAY, *_PUBLISHED, _DEFAULT)
_MEASURES = ("seam", "coarse", "identity_l1", "body_change", "steps")
_SLOTS = 4
_COARSE_PX = 64
_FACES_FROM = 100_000  # seeds of faces, above those of bodies: a seed is one person in both
_WON_SHARE = 0.9  # of the pairs, in which the seam has to be the better one
_WORSE_AT_MOST = 1.05  # times a preset's median identity and body

Measures = dict[str, float] | str  # why there are none, where an item failed
Results = dict[str, dict[str, Measures]]  # by recipe and pair


def main() -> None:
    """Run what is asked for, add it to the file, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=5000, help="of the bodies")
    parser.add_argument(
        "--recipes", default=",".join(_RECIPES), help="presets, or files of changes to the default"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/recipes_quality.json"))
    arguments = parser.parse_args()
    bench = Bench()
    seeds = bench.usable_seeds(arguments.first_seed, arguments.pairs)
    runs = _read(arguments.out, bench)
    facts = {"device": str(bench.device), "torch": torch.__version__} | surroundings.describe()
    for name in arguments.recipes.split(","):
        run = runs.setdefault(name, {"fingerprint": bench.fingerprint(name), "pairs": {}})
        run["measured_at"] = facts
        for pair, measures in bench.run(name, seeds):
            run["pairs"][pair] = measures
            arguments.out.write_text(json.dumps(runs, indent=1) + "\n")
    print("\n".join(report({name: run["pairs"] for name, run in runs.items()})))


def _read(path: Path, bench: Bench) -> dict[str, Any]:
    """What earlier calls have found by recipe, but for those that have changed since."""
    runs: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    there = [name for name in runs if not name.endswith(".yaml") or Path(name).exists()]
    return {n: runs[n] for n in there if runs[n]["fingerprint"] == bench.fingerprint(n)}


# Running


class Bench:
    """The demo's generators and detectors, and what they make of pairs."""

    def __init__(self) -> None:
        self.device = best_device()
        self._generators = {
            name: Generator.load(models.demo_path(name), self.device) for name in (CANVAS, _FACE)
        }
        self._perceptual = Perceptual(None).to(self.device)
        self._detectors = {
            CANVAS: FaceDetector(self.device, smallest_face=SMALLEST_FACE_OF_CANVAS),
            _FACE: FaceDetector(self.device, smallest_face=SMALLEST_FACE_OF_INSET),
        }

    def recipe(self, name: str) -> Recipe:
        """A recipe as the demo's generators can run it, with one truncation for all."""
        if name == _PASTED:
            return Recipe(min_rounds=0, max_rounds=0)
        chosen = _named(name)
        return dataclasses.replace(
            chosen,
            psi=Recipe().psi,
            insets={_FACE: dataclasses.replace(chosen.insets[_FACE], psi=None)},
            resolution=min(chosen.resolution, self._generators[_FACE].height),
        )

    def fingerprint(self, name: str) -> str:
        """Another one for another recipe and for other generators."""
        recipe = dataclasses.asdict(self.recipe(name))
        weights = [generator.sha256 for generator in self._generators.values()]
        return hashlib.sha256(json.dumps([recipe, weights]).encode()).hexdigest()[:12]

    def usable_seeds(self, first: int, count: int) -> list[int]:
        """So many bodies from `first` on, where a face is found in both pictures of the pair."""
        seeds = (seed for seed in itertools.count(first) if self._is_usable(seed))
        return list(itertools.islice(seeds, count))

    def run(self, name: str, seeds: list[int]) -> Iterator[tuple[str, Measures]]:
        """(pair, what was measured), as items end."""
        recipe = self.recipe(name)
        optimizer = SlotOptimizer(
            canvas=self._generators[CANVAS],
            insets={_FACE: self._generators[_FACE]},
            detectors={_FACE: self._detectors[_FACE]},
            canvas_detectors={_FACE: self._detectors[CANVAS]},
            perceptual=self._perceptual,
            recipe=recipe,
            capacity=_SLOTS,
        )
        makes = Preparer(recipe, self._generators, {}, {})
        starts = {
            str(seed): makes.start(str(seed), makes.prepare(_item(seed), inputs.read))
            for seed in seeds
        }
        waiting = list(starts.values())
        while waiting or optimizer.keys:
            for _ in range(min(optimizer.free, len(waiting))):
                optimizer.admit(waiting.pop(0))
            optimizer.run_round()
            for finished in optimizer.release():
                references = starts[finished.key].references
                error = finished.error
                yield finished.key, error.reason if error else measure(finished, references)

    def _is_usable(self, seed: int) -> bool:
        pictures = {CANVAS: seed, _FACE: seed + _FACES_FROM}
        found = [
            self._detectors[name].find(
                images.to_pixels(self._generators[name].images_of_seeds([s], Recipe().psi))
            )
            for name, s in pictures.items()
        ]
        return all(boxes[0] is not None for boxes in found)


def _named(name: str) -> Recipe:
    """A preset, or the default with what a file changes."""
    if not name.endswith(".yaml"):
        return recipes.preset("montage" if name == _DEFAULT else name)
    changes = yaml.safe_load(Path(name).read_text())
    return recipes.from_fields(recipes.merged(dataclasses.asdict(Recipe()), changes), name)


def _item(seed: int) -> Item:
    """The row of a pair."""
    face = Source("seed", seed + _FACES_FROM)
    return new_item(str(seed), Source("seed", seed), {_FACE: face})


def measure(finished: Finished, references: Mapping[str, Tensor]) -> dict[str, float]:
    """What a result is worth, whatever its recipe was; references: what the pair was given."""
    region, masks = finished.best.regions[_FACE], finished.best.masks
    canvas, inset = finished.best.images[CANVAS], finished.best.images[_FACE]
    composite = compose.compose(canvas, {_FACE: inset}, {_FACE: region}, masks).clamp(-1, 1)
    size, on_canvas = (canvas.shape[1], canvas.shape[2]), canvas.new_tensor([region.as_tuple()])
    box = canvas.new_tensor([finished.inset_boxes[_FACE].as_tuple()])
    terms = {
        "coarse": losses.masked_l1(
            objective.crop_region(canvas[None], on_canvas, _COARSE_PX),
            images.downsample(inset[None], _COARSE_PX),
            objective.on_canvas(on_canvas, size, _COARSE_PX),
        ),
        "identity_l1": losses.masked_l1(
            inset[None],
            references[_FACE][None],
            images.box_mask(box, (inset.shape[1], inset.shape[2])),
        ),
        "body_change": losses.masked_l1(
            canvas[None], references[CANVAS][None], 1 - images.box_mask(on_canvas, size)
        ),
    }
    found = {name: round(float(value), 5) for name, value in terms.items()}
    seam = round(compose.seam(composite, region, masks.get(_FACE)), 4)
    return {"seam": seam} | found | {"steps": finished.steps}


# The table


def report(results: Results) -> list[str]:
    """Lines of Markdown: medians over the pairs that all have, where the default is the better one,
    and whether that is enough.
    """
    names = [name for name in _RECIPES if name in results]
    names += sorted(results.keys() - set(_RECIPES))
    pairs = set.intersection(*(set(results[name]) for name in names))
    shared = {name: {pair: results[name][pair] for pair in sorted(pairs)} for name in names}
    lines = [f"Medians over {len(pairs)} pairs.", "", _row("recipe", *_MEASURES, "failed")]
    lines.append(_row("---", *["---:"] * (len(_MEASURES) + 1)))
    for name, found in shared.items():
        failed = sum(isinstance(measures, str) for measures in found.values())
        medians = (_number(_median(found, measure)) for measure in _MEASURES)
        lines.append(_row(name, *medians, str(failed)))
    if _DEFAULT not in shared or not pairs:
        return lines
    lines += [
        "",
        f"In how many of {len(pairs)} pairs `{_DEFAULT}` is lower (steps: not higher).",
        "",
    ]
    lines += [_row("than", *_MEASURES, "enough"), _row("---", *["---:"] * (len(_MEASURES) + 1))]
    for name in (n for n in shared if n != _DEFAULT):
        won = [str(_won(shared[_DEFAULT], shared[name], measure)) for measure in _MEASURES]
        is_enough = _is_enough(shared[_DEFAULT], shared[name])
        verdict = {True: "yes", False: "no"}[is_enough] if name in _PUBLISHED else ""
        lines.append(_row(name, *won, verdict))
    return lines


def _is_enough(ours: dict[str, Measures], theirs: dict[str, Measures]) -> bool:
    """The seam is better in nine of ten pairs, identity and body are hardly worse, and it takes no
    more steps.
    """
    kept = all(
        _median(ours, measure) <= _WORSE_AT_MOST * _median(theirs, measure)
        for measure in ("identity_l1", "body_change")
    )
    is_as_fast = _median(ours, "steps") <= _median(theirs, "steps")
    return _won(ours, theirs, "seam") >= _WON_SHARE * len(ours) and kept and is_as_fast


def _won(ours: dict[str, Measures], theirs: dict[str, Measures], measure: str) -> int:
    """Pairs; one that failed is lost, and won where theirs failed."""
    won = 0
    for pair, a in ours.items():
        b = theirs[pair]
        if isinstance(a, str):
            continue
        is_lower = isinstance(b, str) or a[measure] < b[measure]
        is_equal = measure == "steps" and not isinstance(b, str) and a[measure] == b[measure]
        won += is_lower or is_equal
    return won


def _median(found: dict[str, Measures], measure: str) -> float:
    """Over the pairs that did not fail; infinite where all did."""
    values = [measures[measure] for measures in found.values() if not isinstance(measures, str)]
    return statistics.median(values) if values else math.inf


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
