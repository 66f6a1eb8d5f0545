"""The page of a run, `report/index.html` in its storage: one file that needs no network.

A run whose items are every inset reference on every canvas reference becomes the grid of the
InsetGAN paper's Figure 7; any other run a gallery. Pictures are embedded, so a page shows a limited
number of items, and says so.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2

from insetgan_batch.data.commits import RunStore
from insetgan_batch.report import curves, entries, grid, tables, words

KEY = "report/index.html"

_GALLERY_ITEMS = 200
_TABLE_ITEMS = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class Totals:
    """Numbers over all committed items, also those that the page does not show."""

    done: int
    seam_before: float | None
    seam_after: float | None
    fell: int
    seconds: float | None


def write(store: RunStore) -> str:
    """Build the page and put it into the run's storage; returns its key."""
    store.storage.put(KEY, build(store).encode())
    return KEY


def build(store: RunStore) -> str:
    """The page as HTML. Raises `StorageError` when the run, or a picture of it, cannot be read."""
    run = store.read_run()
    records, totals = _read_commits(store)
    failures = _read_failures(store, {record["item_id"] for record in records})
    places = grid.places(records, failures) if totals.done == len(records) else None
    shown = entries.read(store, records if places else records[:_GALLERY_ITEMS])
    return _TEMPLATE.render(
        run=run,
        totals=totals,
        insets=list(run.get("configuration", {}).get("insets", [])),
        grid=grid.fill(places, shown, failures) if places else None,
        entries=shown,
        frame=curves.Frame(),
        table=tables.items(records),
        failures=failures[:_TABLE_ITEMS],
        failed=len(failures),
        reasons=Counter(record["reason_text"] for record in failures).most_common(),
        recipe=tables.recipe(run.get("configuration", {}).get("recipe")),
        perceptual=sorted({record["perceptual"] for record in records}),
        has_images=any(
            source["kind"] == "image"
            for record in records
            for source in entries.sources(record["item"]).values()
        ),
    )


def _read_commits(store: RunStore) -> tuple[list[dict[str, Any]], Totals]:
    """The first records, as many as the table shows, and numbers over all of them."""
    records: list[dict[str, Any]] = []
    seams: list[tuple[float, float]] = []
    seconds: list[float] = []
    done = 0
    for record in store.commits():
        done += 1
        if done <= _TABLE_ITEMS:
            records.append(record)
        if None not in (record["seam_before"], record["seam_after"]):
            seams.append((record["seam_before"], record["seam_after"]))
        seconds.append(record["seconds"])
    return records, Totals(
        done=done,
        seam_before=statistics.median(before for before, _ in seams) if seams else None,
        seam_after=statistics.median(after for _, after in seams) if seams else None,
        fell=sum(after < before for before, after in seams),
        seconds=statistics.median(seconds) if seconds else None,
    )


def _read_failures(store: RunStore, done: set[str]) -> list[dict[str, Any]]:
    """Quarantined items that were not done later, each with its reason in words."""
    return [
        record | {"reason_text": words.reason(record["reason"])}
        for item_id, record in store.quarantined().items()
        if item_id not in done
    ]


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "level": words.level,
        "duration": words.duration,
        "moment": words.moment,
    }
    environment.globals |= {"change": words.change}
    return environment.get_template("page.html.jinja")


_TEMPLATE = _template()
