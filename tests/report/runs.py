"""Fabricated runs, and their pages taken apart."""

from __future__ import annotations

import dataclasses
import json
import re
import uuid
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

import numpy as np

from insetgan_batch import config
from insetgan_batch.data import results
from insetgan_batch.data.commits import RunStore, hh
from insetgan_batch.data.results import LossTable, Result
from insetgan_batch.data.storage import MemoryStorage
from insetgan_batch.methods.insetgan import measures as numbers
from insetgan_batch.methods.insetgan.sources import Source, given, new_item, of
from insetgan_batch.records import Item
from insetgan_batch.report import page

HEIGHT, WIDTH, SIDE = 64, 32, 32
REGION, REGION_BEFORE = [10, 4, 26, 20], [8, 4, 24, 20]
_VOID = {"meta", "link", "img", "input", "rect", "path"}


def new_run(**changes: Any) -> RunStore:
    """A run that has been opened, and nothing else; changes: of its configuration."""
    store = RunStore(MemoryStorage(uuid.uuid4().hex))
    store.open_run(
        {
            "run_id": "spring-people",
            "configuration": config.to_fields(config.parse(changes, "test")),
            "weights": {"canvas": "ab" * 32, "face": "cd" * 32},
            "code_version": "0.1.0",
            "created_at": "2026-11-20T14:40:05+00:00",
        }
    )
    return store


def montage(body: int, face: int) -> Item:
    """A body with a face, each from its seed."""
    name = f"body{body}-face{face}"
    return new_item(name, Source("seed", body), {"face": Source("seed", face)})


def losses(rounds: int = 2, steps: int = 3) -> LossTable:
    """Two phases of `steps` steps in each round; a step has a term of its own and one shared."""
    rows = [
        (r + 1, phase, r * steps + s, term)
        for r in range(rounds)
        for phase, own in (("canvas", "canvas.body.l1"), ("face", "face.face.lpips"))
        for s in range(steps)
        for term in ("face.border.l1", own)
    ]
    return LossTable(
        round=np.array([row[0] for row in rows], np.int32),
        phase=[row[1] for row in rows],
        step=np.array([row[2] for row in rows], np.int32),
        term=[row[3] for row in rows],
        raw=np.linspace(0.5, 0.1, len(rows), dtype=np.float32),
        weight=np.ones(len(rows), np.float32),
    )


def commit(
    store: RunStore,
    item: Item,
    table: LossTable | None = None,
    scale: int = 1,
    film: int = 0,
    insets: Sequence[str] | None = None,
    **changes: Any,
) -> None:
    """An item that is done, with noise for pictures, and for so many frames of a film.

    insets: of the run; None for those that the row names.
    """
    rng = np.random.default_rng(len(item.item_id))

    def noise(height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return rng.integers(0, 256, (height * scale, width * scale, 3), dtype=np.uint8)

    found = given(item.inputs) if insets is None else of(item.inputs, insets)
    insets = [name for name in found if name != "canvas"]
    whole = ("image", "copy_paste", "canvas", "canvas_reference") if insets else ("image",)
    parts = [name for inset in insets for name in (inset, f"{inset}_reference")]
    boxes = {"inset": [8, 8, 24, 24], "region": REGION, "region_before": REGION_BEFORE}
    said: dict[str, Any] = {
        "rounds": 2,
        "best_round": 2,
        "steps": 12,
        "stop": "max_rounds",
        "seconds": 30.0,
        "score": 0.75,
        "seam_before": 12.0,
        "seam_after": 3.0,
        "losses": {"face.border.l1": 0.12, "canvas.body.l1": 0.08, "face.face.lpips": 0.2},
        "boxes": dict.fromkeys(insets, boxes),
        "missed_detections": 0,
        "perceptual": "alexnet-random-7",
        "psi": {},
        "inversion": {},
        "identity": None,
    } | changes
    identity = said["identity"] or {}
    result = Result(
        item=item,
        attempt="1-1",
        images={n: noise(HEIGHT, WIDTH) for n in whole} | {n: noise(SIDE, SIDE) for n in parts},
        latents={"canvas.w": np.zeros(4, np.float32)},
        losses=losses() if table is None else table,
        seconds=said["seconds"],
        steps=said["steps"],
        measures=numbers.measures(
            {name: said[name] for name in numbers.PLAIN if name in said},
            said["losses"],
            said["inversion"],
            {name: one["cosine"] for name, one in identity.items()},
        ),
        facts=numbers.facts(
            recipe="montage",
            stop=said["stop"],
            perceptual=said["perceptual"],
            identity_by={name: one["by"] for name, one in identity.items()},
            sources=found,
            psi=said["psi"],
            boxes=said["boxes"],
        ),
        provenance={},
        film=[noise(HEIGHT, WIDTH) for _ in range(film)],
    )
    store.commit(item.item_id, results.save(store, result))


def failure(item: Item, reason: str = "no_face", detail: str = "") -> dict[str, Any]:
    """What the driver writes about an item that cannot be done."""
    return {
        "item_id": item.item_id,
        "reason": reason,
        "detail": detail,
        "attempts": 2,
        "attempt": "1-9",
        "item": dataclasses.asdict(item),
    }


def fail(store: RunStore, item: Item, reason: str = "no_face", detail: str = "") -> None:
    """Set an item aside."""
    store.quarantine(item.item_id, failure(item, reason, detail))


class Page(HTMLParser):
    """A page taken apart: its elements, its text, and its tables by class as rows of cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._open: list[str] = []
        self._table: list[list[str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "table":
            self._table = self.tables.setdefault((values["class"] or "").split()[0], [])
        if tag == "tr":
            self._table.append([])
        if tag in ("td", "th"):
            self._table[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert tag in _VOID or self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text += data
        if {"td", "th"} & set(self._open):
            self._table[-1][-1] = f"{self._table[-1][-1]} {data}".strip()

    def values(self, attribute: str) -> list[str]:
        """What every element that has the attribute says there."""
        return [values[attribute] or "" for _, values in self.tags if attribute in values]


def page_of(store: RunStore) -> Page:
    """The run's page, written now."""
    page.write(store)
    return Page(store.storage.get(page.KEY).decode())


def called_with(script: bytes) -> Any:
    """What one of the page's scripts of data hands over, as JSON."""
    found = re.fullmatch(r"insetgan\.(show|addViews)\((.*)\);\n", script.decode(), re.DOTALL)
    assert found
    return json.loads(found[2])


def data_of(store: RunStore) -> dict[str, Any]:
    """The tables of the run's page, written now."""
    page.write(store)
    return dict(called_with(store.storage.get("report/data.js")))


def view_of(store: RunStore, item_id: str) -> dict[str, Any]:
    """What the page, written now, says in the item's own view."""
    page.write(store)
    return dict(dict(called_with(store.storage.get(f"report/folders/{hh(item_id)}.js")))[item_id])


def column(table: dict[str, Any], title: str, group: str = "") -> list[Any]:
    """The values of a column of a table of the page."""
    (found,) = [c for c in table["columns"] if (c["group"], c["title"]) == (group, title)]
    return list(found["values"])
