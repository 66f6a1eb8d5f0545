"""The page of a run, `report/index.html` in its storage, and the files beside it.

A run whose items are every inset reference on every canvas reference begins with the grid of the
InsetGAN paper's Figure 7; every run has a table of its items, and views of single ones that show
the run's own files. Everything is reached by relative links: the page works from a disk and from a
bucket, as long as it stays in its run.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import jinja2

from insetgan_batch.data import results
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.damage import or_damage
from insetgan_batch.errors import DamagedError
from insetgan_batch.report import curves, folders, grid, item_table, selection, thumbnails, words
from insetgan_batch.report.entries import TableRow
from insetgan_batch.report.grid import Grid
from insetgan_batch.report.selection import Selection

KEY = "report/index.html"

_READERS = 16
_HERE = Path(__file__).parent


@dataclasses.dataclass(frozen=True, slots=True)
class Totals:
    """Numbers over the items that the page shows; done: of all of them, but for damaged ones."""

    done: int
    seam_before: float | None
    seam_after: float | None
    fell: int
    measured: int
    seconds: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """A page that has been put into a run's storage. damaged: a line for each item that it leaves
    out because its commit, or a file that this names, is not what was written.
    """

    uri: str
    damaged: list[str]


def write(store: RunStore) -> Written:
    """Put the page, and before it what lies beside it, into the run's storage.

    Raises `StorageError` when the run cannot be read.
    """
    html, damaged = build(store, selection.select(store))
    store.storage.put(KEY, html.encode())
    return Written(f"{store.storage.uri}/{KEY}", damaged)


def build(store: RunStore, chosen: Selection) -> tuple[str, list[str]]:
    """The page as HTML, and a line for each item that is left out; what lies beside the page is in
    the run's storage then. Raises as `write`.
    """
    run = store.read_run()
    insets = list(run.get("configuration", {}).get("insets", []))
    width, height = _picture_size(store, chosen)
    cell = thumbnails.cell_for(width, height)
    found = list(folders.write(store, chosen.item_ids, cell, insets))
    rows = [row for row in found if not isinstance(row, DamagedError)]
    damaged = chosen.damaged + [str(row) for row in found if isinstance(row, DamagedError)]
    written = datetime.now(UTC)
    data = {
        "items": item_table.items(rows),
        "failures": item_table.failures(chosen.failures, insets),
        "thumbnail": cell,
        "frame": curves.PlotArea(),
    }
    store.storage.put("report/data.js", folders.to_script("insetgan.show", data))
    store.storage.put("report/page.js", (_HERE / "script.js").read_bytes())
    html = _TEMPLATE.render(
        run=run,
        uri=store.storage.uri,
        damaged=damaged,
        totals=_totals(chosen.done - (len(found) - len(rows)), rows),
        shown=len(rows),
        insets=insets,
        grid=_grid(store, [row.item_id for row in rows], chosen, insets),
        shape=f"{width} / {height}",
        failed=chosen.failed,
        failures=len(chosen.failures),
        recipe=item_table.recipe(run.get("configuration", {}).get("recipe")),
        perceptual=sorted({row.perceptual for row in rows}),
        has_images=any(row.has_images for row in rows),
        written=written.isoformat(),
        stamp=f"{written:%Y%m%d%H%M%S}",
    )
    return html, damaged


def _picture_size(store: RunStore, chosen: Selection) -> tuple[int, int]:
    """Width and height of an item's picture; all of a run have one size."""
    for item_id in chosen.item_ids:
        image = or_damage(lambda: results.read_image(store, store.read_commit(item_id)))  # noqa: B023
        if not isinstance(image, DamagedError):
            height, width, _ = image.shape
            return width, height
    return 1, 1


def _grid(
    store: RunStore, item_ids: Sequence[str], chosen: Selection, insets: Sequence[str]
) -> Grid | None:
    """The grid of a small run, if its items make one."""
    if len(item_ids) > grid.SIDE**2 or chosen.failed > grid.SIDE**2:
        return None
    with ThreadPoolExecutor(_READERS) as pool:
        return grid.of(list(pool.map(store.read_commit, item_ids)), chosen.failures, insets)


def _totals(done: int, rows: Sequence[TableRow]) -> Totals:
    found = [(row.measures["seam_before"], row.measures["seam_after"]) for row in rows]
    seams = [(b, a) for b, a in found if b is not None and a is not None]
    seconds = [s for row in rows if (s := row.measures["seconds"]) is not None]
    return Totals(
        done=done,
        seam_before=statistics.median(before for before, _ in seams) if seams else None,
        seam_after=statistics.median(after for _, after in seams) if seams else None,
        fell=sum(after < before for before, after in seams),
        measured=len(rows),
        seconds=statistics.median(seconds) if seconds else None,
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "level": words.level,
        "duration": words.duration,
        "moment": words.moment,
        "reason": words.reason,
        "in_run": lambda key: f"../{quote(key)}",
    }
    environment.globals |= {"change": words.change}
    return environment.get_template("page.html.jinja")


_TEMPLATE = _template()
