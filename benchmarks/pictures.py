"""What every recipe does, as one sheet each: `make pictures`.

    python benchmarks/pictures.py docs/recipes              (runs the demos into out/pictures first)
    python benchmarks/pictures.py docs/recipes refine       (these recipes only)

A row shows what the item was made from, the plain copy and paste, and the result. A demo that is
there already is not run again, unless its recipe has changed; then remove its directory.
"""

from __future__ import annotations

import io
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from insetgan_batch.boxes import Box
from insetgan_batch.data import results
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import open_storage
from insetgan_batch.methods.insetgan.demos import DEMOS

_RUNS = Path("out/pictures")
_GAP_PX, _CAPTION_PX = 8, 26
_HALF_PX = 124  # of what stands one above the other, beside a canvas of 256
_MARGIN = 0.35  # around an enlarged region, of its size
_MOST_ITEMS, _CHANCE = 3, 3  # of a sheet, and which
_MAX_BYTES = 400_000
_INK, _PAPER = (40, 40, 40), (255, 255, 255)
_FONT = ImageFont.load_default(13)

_Frame = tuple[float, float, float, float]


def main(out: Path, recipes: list[str]) -> None:
    """Write `<recipe>.png` for each of the recipes."""
    out.mkdir(parents=True, exist_ok=True)
    for recipe in recipes:
        run = str(_RUNS / recipe)
        command = [sys.executable, "-m", "insetgan_batch", "demo", "--recipe", recipe, "--out", run]
        if subprocess.run(command, check=False).returncode:
            sys.exit(f"{recipe}: its demo in {run} failed, see above; no sheet was made")
        store = RunStore(open_storage(run))
        sheets = (png(sheet(store, items)) for items in range(_MOST_ITEMS, 0, -1))
        data = next(data for data in sheets if len(data) <= _MAX_BYTES)
        (out / f"{recipe}.png").write_bytes(data)
        print(f"{out / recipe}.png ({len(data) / 1000:.0f} kB)")


def sheet(store: RunStore, items: int) -> Image.Image:
    """So many items of a run, a row each; without insets all images, side by side."""
    records = list(store.commits())
    insets = list(store.read_run()["configuration"]["insets"])
    if not insets:
        return beside([picture_of(store, record, "image") for record in records])
    # By chance, since neighbours share an input.
    chosen = random.Random(_CHANCE).sample(records, _MOST_ITEMS)[:items]
    rows = [_columns(store, record, insets) for record in chosen]
    enlarged = [f"{name}: before, after" for name in insets]
    inputs = " and ".join(_caption(name, records[0]["facts"][f"{name}_source"]) for name in insets)
    captions = ["canvas", inputs, "copy and paste", "result", *enlarged]
    widths = [column.width for column in rows[0]]
    return above([captions_over(captions, widths), *(beside(row) for row in rows)])


def _caption(name: str, kind: object) -> str:
    return f"{name} (average)" if kind == "average" else name


def _columns(store: RunStore, record: Mapping[str, Any], insets: list[str]) -> list[Image.Image]:
    """One item: its inputs, both pictures, and every region before and after."""
    before, after = (picture_of(store, record, name) for name in ("copy_paste", "image"))
    inputs = [_small(picture_of(store, record, f"{name}_reference")) for name in insets]
    frames = [_frame(record["boxes"][name]["region"], before) for name in insets]
    enlarged = [above([_small(before, frame), _small(after, frame)]) for frame in frames]
    return [picture_of(store, record, "canvas_reference"), above(inputs), before, after, *enlarged]


def _frame(region: list[float], canvas: Image.Image) -> _Frame:
    """A square around a region, moved and made smaller where it would reach over the edge."""
    box = Box.of(region)
    side = min((1 + 2 * _MARGIN) * max(box.width, box.height), canvas.width, canvas.height)
    left = min(max(0.0, box.centre[0] - side / 2), canvas.width - side)
    top = min(max(0.0, box.centre[1] - side / 2), canvas.height - side)
    return left, top, left + side, top + side


def _small(picture: Image.Image, frame: _Frame | None = None) -> Image.Image:
    return picture.resize((_HALF_PX, _HALF_PX), Image.Resampling.LANCZOS, frame)


def picture_of(store: RunStore, record: Mapping[str, Any], name: str) -> Image.Image:
    return Image.fromarray(results.read_image(store, record, name))


def beside(pictures: list[Image.Image]) -> Image.Image:
    """In a row, each in the middle of its height."""
    width = sum(picture.width + _GAP_PX for picture in pictures) - _GAP_PX
    row = Image.new("RGB", (width, max(picture.height for picture in pictures)), _PAPER)
    x = 0
    for picture in pictures:
        row.paste(picture, (x, (row.height - picture.height) // 2))
        x += picture.width + _GAP_PX
    return row


def above(pictures: list[Image.Image]) -> Image.Image:
    """In a column."""
    height = sum(picture.height + _GAP_PX for picture in pictures) - _GAP_PX
    column = Image.new("RGB", (max(picture.width for picture in pictures), height), _PAPER)
    y = 0
    for picture in pictures:
        column.paste(picture, (0, y))
        y += picture.height + _GAP_PX
    return column


def captions_over(captions: list[str], widths: list[int]) -> Image.Image:
    """A line of text, one caption over the middle of each column."""
    line = Image.new("RGB", (sum(widths) + _GAP_PX * (len(widths) - 1), _CAPTION_PX), _PAPER)
    draw, x = ImageDraw.Draw(line), 0
    for caption, width in zip(captions, widths, strict=True):
        draw.text((x + width / 2, _CAPTION_PX / 2), caption, _INK, _FONT, "mm")
        x += width + _GAP_PX
    return line


def png(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "PNG", optimize=True)
    return sink.getvalue()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:] or list(DEMOS))
