"""How far a face's cut-out strays when its photograph is turned, scaled and shifted.

    python benchmarks/alignment.py [--people 40] [--out benchmarks/results/alignment.json]

Rendered people that nothing was trained on (`photographs.py`; needs insetgan-batch[people]). Each
is photographed unmoved, and then at each angle with a scale of 0.5 to 2 and a shift of up to a
tenth of the picture, drawn at random. In both photographs MTCNN looks for the face, and the square
follows from its landmarks alone. The square of the moved photograph should lie where the unmoved
one's lies after the same move: what is measured is the mean distance of their corners, in eye
distances of the moved face. Prints a table and writes a JSON file.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
import surroundings
import torch
from photographs import FIRST_SEED, Camera, Move
from rich.progress import track

from insetgan_batch.methods.insetgan import alignment
from insetgan_batch.methods.insetgan.faces import find_faces
from insetgan_batch.nets.detector import Face, PhotographFaces

_ANGLES = (0, -5, 5, -10, 10, -15, 15, -20, 20, -30, 30, -45, 45)
_PROMISED_DEGREES, _PROMISED = 20, 0.06
_SCALES, _SHIFT = (0.5, 2.0), 0.1


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/alignment.json"))
    arguments = parser.parse_args()
    found = measure(arguments.people)
    rows = [row(angle, found) for angle in sorted({abs(a) for a in _ANGLES})]
    promised = [
        error
        for angle, errors in found.items()
        for error in errors
        if error is not None and abs(angle) <= _PROMISED_DEGREES
    ]
    print("| turned by, degrees | faces found | strays by, median | 95 % |")
    print("|---:|---:|---:|---:|")
    for r in rows:
        print(
            f"| {r['degrees']} | {r['found']} of {r['photographs']}"
            f" | {r['median']:.1%} | {r['p95']:.1%} |"
        )
    median = statistics.median(promised)
    print(f"up to {_PROMISED_DEGREES} degrees: {median:.2%} of the eye distance (median)")
    facts = {"people": arguments.people, "median_up_to_20_degrees": round(median, 4)}
    arguments.out.write_text(json.dumps({"angles": rows} | facts | surroundings.describe()) + "\n")
    if median > _PROMISED:
        raise SystemExit(f"more than the {_PROMISED:.0%} that was promised")


def measure(people: int) -> dict[int, list[float | None]]:
    """By angle, an error for each person; None where a face was not found."""
    camera, finder = Camera(), PhotographFaces(torch.device("cpu"))
    random = np.random.default_rng(0)
    errors: dict[int, list[float | None]] = {angle: [] for angle in _ANGLES}
    for seed in track(range(FIRST_SEED, FIRST_SEED + people), "people"):
        unmoved = look(finder, camera, seed, Move())
        for angle in _ANGLES:
            scale = float(np.exp(random.uniform(*np.log(_SCALES))))
            shift = tuple(random.uniform(-_SHIFT, _SHIFT, 2).tolist())
            move = Move(angle, scale, (shift[0], shift[1]))
            moved = look(finder, camera, seed, move)
            errors[angle].append(
                None if unmoved is None or moved is None else strays(unmoved, moved, move)
            )
    return errors


def look(finder: PhotographFaces, camera: Camera, seed: int, move: Move) -> Face | None:
    """The largest face of a photograph, if there is one that the package would take."""
    found = find_faces(camera.photograph(seed, move), finder)
    return found[0] if found and found[0].probability >= 0.9 else None


def strays(unmoved: Face, moved: Face, move: Move) -> float:
    """The mean distance of the corners, in eye distances."""
    expected = move(alignment.square_of(unmoved.landmarks).corners)
    found = alignment.square_of(moved.landmarks).corners
    eyes = move(unmoved.landmarks)[:2]
    distance = np.linalg.norm(found - expected, axis=1).mean()
    return float(distance / np.linalg.norm(eyes[1] - eyes[0]))


def row(degrees: int, found: dict[int, list[float | None]]) -> dict[str, float]:
    """Both directions together."""
    errors = [e for angle in {degrees, -degrees} for e in found.get(angle, [])]
    known = [e for e in errors if e is not None]
    return {
        "degrees": degrees,
        "photographs": len(errors),
        "found": len(known),
        "median": round(float(np.median(known)), 4),
        "p95": round(float(np.quantile(known, 0.95)), 4),
    }


if __name__ == "__main__":
    main()
