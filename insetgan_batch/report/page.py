"""The page of a run, `report/index.html` in its storage, and the files beside it.

A run whose items stand in rows and columns begins with their grid; every run has a table of its
items, and views of single ones that show the run's own files. What depends on the method is in its
`method.Page`. Everything is reached by relative links: the page works from a disk and from a
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

from insetgan_batch.data import results, tables
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.damage import or_damage
from insetgan_batch.errors import DamagedError
from insetgan_batch.method import Measure, Page
from insetgan_batch.methods import names
from insetgan_batch.report import curves, folders, grid, item_table, selection, thumbnails, words
from insetgan_batch.report.entries import TableRow
from insetgan_batch.report.grid import Grid
from insetgan_batch.report.selection import Selection

KEY = "report/index.html"

_READERS = 16
_HERE = Path(__file__).parent


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """A measure of the items that the page shows: medians before and after, and in how many items
    it fell.
    """

    measure: Measure
    before: float
    after: float
    fell: int


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
    method, own = names.of_run(run), names.page_of_run(run)
    width, height = _picture_size(store, chosen)
    cell = thumbnails.cell_for(width, height)
    found = list(folders.write(store, chosen.item_ids, cell, own))
    rows = [row for row in found if not isinstance(row, DamagedError)]
    damaged = chosen.damaged + [str(row) for row in found if isinstance(row, DamagedError)]
    written = datetime.now(UTC)
    data = {
        "items": item_table.items(rows, method.MEASURES, own),
        "failures": item_table.failures(chosen.failures, method, own),
        "thumbnail": cell,
        "frame": curves.PlotArea(),
        "compared": own.before,
        "shaded_phase": own.shaded_phase,
    }
    store.storage.put("report/data.js", folders.to_script("insetgan.show", data))
    store.storage.put("report/page.js", (_HERE / "script.js").read_bytes())
    html = _TEMPLATE.render(
        run=run,
        uri=store.storage.uri,
        damaged=damaged,
        method=method,
        page=own,
        done=chosen.done - (len(found) - len(rows)),
        shown=len(rows),
        changes=_changes(rows, method.MEASURES),
        seconds=statistics.median(row.seconds for row in rows) if rows else None,
        grid=_grid(store, [row.item_id for row in rows], chosen, own),
        shape=f"{width} / {height}",
        failed=chosen.failed,
        failures=len(chosen.failures),
        has_losses=any(tables.is_loss(name) for row in rows for name in row.measures),
        has_given_pictures=any(
            column.kind == "picture" and name in row.inputs
            for name, column in method.rows_of_run(run).columns.items()
            for row in rows
        ),
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


def _grid(store: RunStore, item_ids: Sequence[str], chosen: Selection, page: Page) -> Grid | None:
    """The grid of a small run, if its items make one."""
    if len(item_ids) > grid.SIDE**2 or chosen.failed > grid.SIDE**2:
        return None
    with ThreadPoolExecutor(_READERS) as pool:
        return grid.of(list(pool.map(store.read_commit, item_ids)), chosen.failures, page)


def _changes(rows: Sequence[TableRow], measures: Sequence[Measure]) -> list[Change]:
    """Of each measure that some item has before and after."""
    changes = []
    for measure in measures:
        found = [(row.measures.get(measure.before), row.measures.get(measure.name)) for row in rows]
        pairs = [(b, a) for b, a in found if b is not None and a is not None]
        if pairs:
            before, after = (statistics.median(side) for side in zip(*pairs, strict=True))
            changes.append(Change(measure, before, after, sum(a < b for b, a in pairs)))
    return changes


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": words.number,
        "duration": words.duration,
        "moment": words.moment,
        "reason": words.reason,
        "in_run": lambda key: f"../{quote(key)}",
    }
    environment.globals |= {"in_words": words.change}
    return environment.get_template("page.html.jinja")


_TEMPLATE = _template()
