"""How near pictures of held-out faces are painted again: several starts, several numbers of steps.

    python benchmarks/inversion.py [--faces 40] [--ways stylegan2,average,nearest,encoder]
                                   [--out benchmarks/results/inversion.json]

Rendered people that nothing was trained on (`photographs.py`; needs insetgan-batch[people]) are
photographed, found, and cut out as the demo's face generator paints its own, all as `manifest
faces` does it. Then their pictures are inverted in the batch, as a run does it:

    stylegan2  the projector of StyleGAN2 (Karras et al. 2020, appendix D): w alone, from the
               average, LPIPS alone, noise on w; 1,000 steps of 0.1. Its noise maps stay as they are
    average    ours, from the average, 1,000 steps
    nearest    ours, from the nearest of 64 seeds, 200 steps
    encoder    ours, from the encoder's latents, 200 steps
    bodies     ours, from the nearest of 64 seeds, 200 steps, for whole people and `demo:canvas`

The error is L1 (range -1..1) plus LPIPS of the whole picture (random features: the demo has no
others), as it stands before each step. Prints a table: the error at the start, after 200 steps and
at the end (medians), and in how many pictures 200 steps from a start reach what 1,000 steps from
the average reach. A way that is not asked for keeps what the file has of it. Writes a sheet of
pictures beside the JSON file with --sheet.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import surroundings
import torch
from photographs import FIRST_SEED, Camera
from PIL import Image
from rich.progress import Progress

from insetgan_batch.data import inputs, models
from insetgan_batch.methods.insetgan import alignment, images
from insetgan_batch.methods.insetgan import recipe_variants as recipes
from insetgan_batch.methods.insetgan.faces import FaceCrop, cut_for, find_faces
from insetgan_batch.methods.insetgan.prepare import Preparer
from insetgan_batch.methods.insetgan.recipe import CANVAS, ImageWeights, Inversion, Recipe
from insetgan_batch.methods.insetgan.slots import SlotOptimizer
from insetgan_batch.methods.insetgan.sources import Source, new_item
from insetgan_batch.methods.insetgan.states import Finished
from insetgan_batch.nets import encoder
from insetgan_batch.nets.detector import PhotographFaces
from insetgan_batch.nets.generator import Generator
from insetgan_batch.nets.perceptual import Perceptual

_CPU = torch.device("cpu")
_HELD_OUT = FIRST_SEED + 100_000  # the alignment's benchmark has the others
_SLOTS = 4
_FEW, _MANY = 200, 1000
_EVERY = 20  # steps between the errors that are kept
_FACE, _BODY = "demo:face", "demo:canvas"

OURS = Inversion()
WAYS = {
    "stylegan2": Inversion(
        start="average",
        rounds=10,
        steps=100,
        learning_rate=0.1,
        latents="w",
        picture=ImageWeights(lpips=1.0),
        w_noise=0.05,
        warm_up=0.5,  # 5 % of all steps
        cool_down=0.25,
    ),
    "average": dataclasses.replace(OURS, start="average", rounds=50, steps=20),
    "nearest": dataclasses.replace(OURS, start="nearest"),
    "encoder": OURS,
    "bodies": dataclasses.replace(OURS, start="nearest"),
}


def main() -> None:
    """Invert what is asked for, add it to the file, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=int, default=40)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/inversion.json"))
    parser.add_argument(
        "--sheet", type=Path, help="PNG of the first eight, as given and by the last way"
    )
    arguments = parser.parse_args()
    known: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    curves: dict[str, list[list[float | None]]] = known.get("curves", {})
    painted: dict[str, list[np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for way in arguments.ways.split(","):
            model = _BODY if way == "bodies" else _FACE
            pictures = photograph(arguments.faces, Path(folder), model)
            bench = Bench(model)
            finished = bench.invert(pictures, WAYS[way], way)
            curves[way] = [curve(f) for f in finished]
            painted[way] = [pixels_of(f) for f in finished]
            facts = {"faces": arguments.faces, "features": bench.perceptual.name}
            result = {"curves": curves} | facts | surroundings.describe()
            arguments.out.write_text(json.dumps(result) + "\n")
        if arguments.sheet:
            given = [np.asarray(Image.open(path)) for path in pictures]
            write_sheet(arguments.sheet, [given, painted[way]])
    show(curves)


def photograph(count: int, folder: Path, model: str = _FACE) -> list[Path]:
    """Held-out people: their faces, cut out as the generator's own, or all of them."""
    folder = folder / model.replace(":", "-")
    if folder.exists():
        return sorted(folder.iterdir())
    folder.mkdir()
    camera = Camera()
    paths: list[Path] = []
    if model == _BODY:
        paths = [folder / f"{_HELD_OUT + number}.png" for number in range(count)]
        for path in paths:
            camera.whole(int(path.stem)).save(path)
        return paths
    finder, cut = PhotographFaces(_CPU), cut_for(model)
    seed = _HELD_OUT
    while len(paths) < count:
        if (face := cut_face(camera.photograph(seed), finder, cut)) is not None:
            paths.append(folder / f"{seed}.png")
            face.save(paths[-1])
        seed += 1
    return paths


def cut_face(picture: Image.Image, finder: PhotographFaces, cut: FaceCrop) -> Image.Image | None:
    """The largest face of a photograph, as `manifest faces` cuts it out; None for none."""
    found = find_faces(picture, finder)
    if not found:
        return None
    return alignment.cut_out(picture, alignment.square_of(found[0].landmarks, cut.frame), cut.size)


class Bench:
    """A generator of the demo as a canvas: its pictures are inverted, and that is all."""

    def __init__(self, model: str = _FACE) -> None:
        self._generator = Generator.load(models.fetch(model).path, _CPU)
        faces = encoder.load(models.demo_path("encoder"), _CPU)
        self._encoders = {CANVAS: faces} if model == _FACE else {}
        self.perceptual = Perceptual(None)

    def invert(self, pictures: list[Path], how: Inversion, name: str = "") -> list[Finished]:
        """One result for each picture, in their order."""
        recipe = dataclasses.replace(recipes.preset("generate"), inversion=how)
        starts = Preparer(
            recipe,
            {CANVAS: self._generator},
            {},
            {},
            encoders=self._encoders,
            perceptual=self.perceptual,
        )
        optimizer = self._optimizer(recipe)
        waiting = list(pictures)
        finished: dict[str, Finished] = {}
        with Progress() as progress:
            task = progress.add_task(name, total=len(pictures) * how.rounds * how.steps)
            while waiting or optimizer.keys:
                while waiting and optimizer.free:
                    path = waiting.pop(0)
                    item = new_item(path.name, Source("image", str(path)), {}, seed=len(waiting))
                    optimizer.admit(starts.start(str(path), starts.prepare(item, inputs.read)))
                busy = len(optimizer.keys)
                optimizer.run_round(lambda n=busy: progress.advance(task, n))  # type: ignore[misc]
                finished |= {f.key: f for f in optimizer.release()}
        return [finished[str(path)] for path in pictures]

    def _optimizer(self, recipe: Recipe) -> SlotOptimizer:
        return SlotOptimizer(
            canvas=self._generator,
            insets={},
            detectors={},
            canvas_detectors={},
            perceptual=self.perceptual,
            recipe=recipe,
            capacity=_SLOTS,
        )


def curve(finished: Finished) -> list[float | None]:
    """L1 plus LPIPS before every 20th step, and after the last one; None where a way does not look
    at L1 on its way.
    """
    measures = [{k.rpartition(".")[2]: v for k, v in t.raw.items()} for t in finished.trace]
    errors = [_error(m) for m in [*measures, finished.inversion[CANVAS]]]
    return [None if e is None else round(e, 4) for e in errors[::_EVERY]]


def _error(measures: dict[str, float]) -> float | None:
    return measures["l1"] + measures["lpips"] if "l1" in measures else None


def show(curves: dict[str, list[list[float | None]]]) -> None:
    """The table, and what was asked."""
    print("| from | steps | error at the start | after 200 steps | at the end |")
    print("|---|---:|---:|---:|---:|")
    for way, all_of_it in curves.items():
        last = len(all_of_it[0]) - 1
        columns = [[c[i] for c in all_of_it] for i in (0, min(_FEW // _EVERY, last), last)]
        cells = " | ".join(_median(column) for column in columns)
        print(f"| {way} | {last * _EVERY} | {cells} |")
    for slow in ("stylegan2", "average"):
        for fast in ("nearest", "encoder"):
            if slow in curves and fast in curves:
                pairs = list(zip(curves[fast], curves[slow], strict=True))
                reached = sum(_least(quick) <= (long[-1] or 0.0) for quick, long in pairs)
                print(
                    f"{fast}, {_FEW} steps, reaches {slow}'s {_MANY}-step error in {reached} of"
                    f" {len(pairs)}"
                )


def _least(errors: list[float | None]) -> float:
    return min(e for e in errors[: _FEW // _EVERY + 1] if e is not None)


def _median(errors: list[float | None]) -> str:
    known = [e for e in errors if e is not None]
    return f"{np.median(known):.3f}" if known else ""


def pixels_of(finished: Finished) -> np.ndarray:
    pixels: np.ndarray = images.to_pixels(finished.best.images[CANVAS][None])[0].numpy()
    return pixels


def write_sheet(path: Path, rows: list[list[np.ndarray]]) -> None:
    """The first eight of each row below each other."""
    Image.fromarray(np.concatenate([np.concatenate(row[:8], axis=1) for row in rows])).save(path)


if __name__ == "__main__":
    main()
