"""What docs/faces.md shows: bodies for the faces of photographs, and what the demo cannot do.

    python benchmarks/face_pictures.py docs/faces [ASTRONAUT.jpg]

Rendered people that nothing was trained on are the photographs (`photographs.py`; needs
insetgan-batch[people]). They go the whole way that a user's do, by `run --faces`; a run that is
there already is not made again. With the picture of a real face (NASA's portrait of Eileen Collins,
public domain): what the demo's generator makes of it, in 200 and in 1,000 steps.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import inversion
import numpy as np
import torch
from photographs import FIRST_SEED, Camera, Move
from pictures import above, beside, captions_over, picture_of, png
from PIL import Image

from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import open_storage
from insetgan_batch.methods.insetgan.faces import cut_for
from insetgan_batch.nets.detector import PhotographFaces

_RUNS = Path("out/face-pictures")
_PEOPLE = (300_000, 300_003, 300_007)  # above photographs.FIRST_SEED: nobody has seen them
_BODIES = 3
_HIGH_PX = 256


def main(out: Path, astronaut: Path | None) -> None:
    """Write `bodies.png`, and `astronaut.png` where there is one."""
    out.mkdir(parents=True, exist_ok=True)
    folder = _RUNS / "photographs"
    if not folder.exists():
        photograph(folder)
    write(out / "bodies.png", folder, "bodies")
    if astronaut is not None:
        invert(out / "astronaut.png", astronaut)


def photograph(folder: Path) -> None:
    """Some people, by a camera that is not held straight."""
    folder.mkdir(parents=True)
    camera, random = Camera(), np.random.default_rng(3)
    for seed in _PEOPLE:
        shift = random.uniform(-0.08, 0.08, 2).tolist()
        move = Move(random.uniform(-18, 18), random.uniform(0.8, 1.3), (shift[0], shift[1]))
        camera.photograph(FIRST_SEED + seed, move).save(folder / f"{seed}.png")


def write(path: Path, folder: Path, run: str) -> None:
    """A row for each photograph: itself, its face cut out and as it was painted, its bodies."""
    config = _RUNS / "run.yaml"
    config.write_text("recipe: body_for_face\n")
    command = [sys.executable, "-m", "insetgan_batch", "run", str(config), "--out"]
    command += [str(_RUNS / run), "--faces", str(folder), "--bodies", str(_BODIES)]
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"{' '.join(command)} failed, see above; no sheet was made")
    store = RunStore(open_storage(str(_RUNS / run)))
    rows: dict[str, list[Image.Image]] = {}
    for record in sorted(store.commits(), key=lambda r: str(r["item_id"])):
        taken = str(record["item"]["meta"]["picture"])
        if taken not in rows:
            cut, painted = (picture_of(store, record, n) for n in ("face_reference", "face"))
            rows[taken] = [_high(Image.open(taken).convert("RGB")), above([cut, painted])]
        rows[taken].append(_high(picture_of(store, record, "image")))
        measures = record["measures"]
        inversion = {n: v for n, v in measures.items() if n.startswith("inversion.")}
        print(record["item_id"], inversion, measures["seam_after"])
    widths = [picture.width for picture in next(iter(rows.values()))]
    captions = ["photograph", "cut out, painted", *(f"body {i}" for i in range(_BODIES))]
    sheet = above([captions_over(captions, widths), *(beside(row) for row in rows.values())])
    path.write_bytes(png(sheet))
    print(f"{path} ({path.stat().st_size / 1000:.0f} kB)")


def invert(path: Path, photograph: Path) -> None:
    """One row: the photograph, its face cut out, and as the demo's generator paints it."""
    picture = Image.open(photograph).convert("RGB")
    cut = inversion.cut_face(picture, PhotographFaces(torch.device("cpu")), cut_for("demo:face"))
    assert cut is not None, f"{photograph}: no face"
    name = _RUNS / "astronaut.png"
    cut.save(name)
    columns, captions = [_high(picture), _high(cut)], ["photograph", "cut out"]
    for rounds in (0, inversion.OURS.rounds, 5 * inversion.OURS.rounds):
        how = dataclasses.replace(inversion.OURS, rounds=rounds)
        (finished,) = inversion.Bench().invert([name], how)
        columns.append(_high(Image.fromarray(inversion.pixels_of(finished))))
        captions.append(f"{rounds * how.steps} steps" if rounds else "by the encoder")
        print(captions[-1], finished.inversion)
    widths = [column.width for column in columns]
    path.write_bytes(png(above([captions_over(captions, widths), beside(columns)])))


def _high(picture: Image.Image) -> Image.Image:
    width = round(picture.width * _HIGH_PX / picture.height)
    return picture.resize((width, _HIGH_PX), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
