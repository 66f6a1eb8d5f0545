"""The page of a run, `report/index.html` in its storage: one file that needs no network.

A run whose items are every inset reference on every canvas reference becomes the grid of the
InsetGAN paper's Figure 7; any other run a gallery. Pictures are embedded, so a page shows a limited
number of items, and says so.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
import itertools
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from insetgan_batch.boxes import Box
from insetgan_batch.data import results
from insetgan_batch.data.commits import RunStore

KEY = "report/index.html"

_GRID_SIDE = 16
_GALLERY_ITEMS = 200
_TABLE_ITEMS = 2000
_LOSSLESS_ITEMS = 36  # with more the page would grow beyond what a browser opens gladly
_MAX_HEIGHT_PX = 512
_READERS = 16
_ZOOM_MARGIN = 12 / 256  # around the region, of the canvas' height
_ZOOM_WIDTH_PX = 304
_MAX_ZOOM = 4
_CURVE_POINTS = 300

_FAMILIES = {
    "coarse": "inset against canvas, whole region",
    "border": "inset against canvas, rim of the region",
    "body": "canvas against its reference, outside",
    "face": "inset against its reference, inside",
    "latent": "distance from the average, size of offsets",
}
_DISTANCES = {"l1": "L1", "lpips": "LPIPS"}
_REASONS = {
    "no_face": "no face found",
    "bad_input": "its input cannot be used",
    "diverged": "a loss is no longer a number",
    "crashed_its_worker": "it crashed its worker",
    "retries_exhausted": "failed too often",
    "out_of_memory": "out of memory",
}
_MONTAGE_ID = re.compile(r"body([0-9]+)-face([0-9]+)")

Record = dict[str, Any]
Pixels = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """An embedded image, and the size in pixels at which it is shown as it is."""

    uri: str
    width: int
    height: int


@dataclasses.dataclass(frozen=True, slots=True)
class Zoom:
    """A region before and after, shown `width` pixels wide. marks: SVG paths at its corners."""

    inset: str
    width: int
    before: Picture
    after: Picture
    marks_before: str
    marks_after: str


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One curve. path: SVG; style: its place in the palette."""

    label: str
    path: str
    style: int


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """A number on an axis and where it stands."""

    at: float
    label: str


@dataclasses.dataclass(frozen=True, slots=True)
class Chart:
    """The losses of one family over the steps, ready to be drawn in a `Frame`."""

    title: str
    meaning: str
    is_log: bool
    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    shaded: list[tuple[float, float]]
    kept_at: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """Where the axes of every chart lie, in units of its SVG."""

    width: int = 340
    height: int = 176
    left: int = 44
    right: int = 332
    top: int = 8
    bottom: int = 146

    def x(self, share: float) -> float:
        """From 0..1 to the left and right end."""
        return round(self.left + share * (self.right - self.left), 1)

    def y(self, share: float) -> float:
        """From 0..1 to the lower and upper end."""
        return round(self.bottom - share * (self.bottom - self.top), 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A generator's reference, and what became of it."""

    name: str
    label: str
    reference: Picture
    moved: Picture


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One item that is done, with its pictures."""

    item_id: str
    canvas_label: str
    inset_label: str
    seam_before: float | None
    seam_after: float | None
    before: Picture
    after: Picture
    pairs: list[Pair]
    zooms: list[Zoom]
    charts: list[Chart]
    facts: list[tuple[str, str]]


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """What a row or a column of the grid is held to. pictures: none while nothing in it is done."""

    label: str
    pictures: list[Picture]


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One place of the grid: an item that is done, or failed, or neither."""

    entry: Entry | None
    failure: Record | None


@dataclasses.dataclass(frozen=True, slots=True)
class Grid:
    """References of the insets on top, of the canvas at the left; one list of cells per row."""

    columns: list[Head]
    rows: list[tuple[Head, list[Cell]]]


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column of the table. group: what its heading stands under; is_number: right-aligned."""

    group: str
    title: str
    is_number: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """One cell of the table. number: what it sorts by, None for text and for what is missing."""

    text: str
    number: float | None = None


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
    done = {record["item_id"] for record in records}
    failures = [_told(r) for name, r in store.quarantined().items() if name not in done]
    places = _places(records, failures) if totals.done == len(records) else None
    shown = records if places else records[:_GALLERY_ITEMS]
    entries = _read_entries(store, shown)
    columns, rows = _table(records)
    return _TEMPLATE.render(
        run=run,
        totals=totals,
        entries=entries,
        grid=_grid(places, entries, failures) if places else None,
        columns=columns,
        groups=[(g, len(list(c))) for g, c in itertools.groupby(columns, key=lambda c: c.group)],
        rows=rows,
        failures=failures[:_TABLE_ITEMS],
        failed=len(failures),
        reasons=Counter(record["reason_text"] for record in failures).most_common(),
        frame=Frame(),
        recipe=_recipe(run.get("configuration", {}).get("recipe")),
        perceptual=sorted({record["perceptual"] for record in records}),
        has_images=any(s["kind"] == "image" for r in records for s in _sources(r["item"]).values()),
        insets=sorted({name for record in records for name in record["item"]["insets"]}),
    )


# ---- reading -------------------------------------------------------------------------------------


def _read_commits(store: RunStore) -> tuple[list[Record], Totals]:
    """The first records, as many as the table shows, and numbers over all of them."""
    records: list[Record] = []
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


def _read_entries(store: RunStore, records: Sequence[Record]) -> list[Entry]:
    read = functools.partial(_entry, store, is_lossless=len(records) <= _LOSSLESS_ITEMS)
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(read, records))


def _entry(store: RunStore, record: Record, *, is_lossless: bool) -> Entry:
    """One item with everything that its panel shows."""
    sources = _sources(record["item"])
    load = functools.partial(results.read_image, store, record)
    embed = functools.partial(_picture, is_lossless=is_lossless)
    before, after = load("copy_paste"), load("image")
    return Entry(
        item_id=record["item_id"],
        canvas_label=_label(record["item"]["canvas"]),
        inset_label=_inset_label(record["item"]),
        seam_before=record["seam_before"],
        seam_after=record["seam_after"],
        before=embed(before),
        after=embed(after),
        pairs=[
            Pair(name, _label(source), embed(load(f"{name}_reference")), embed(load(name)))
            for name, source in sources.items()
        ],
        zooms=[
            _zoom(name, before, after, found, is_lossless=is_lossless)
            for name, found in record["boxes"].items()
        ],
        charts=_charts(results.read_losses(store, record), record["best_round"]),
        facts=_facts(record),
    )


def _facts(record: Record) -> list[tuple[str, str]]:
    """What there is to say about an item besides its pictures."""
    item, rounds, kept = record["item"], record["rounds"], record["best_round"]
    stop = record["stop"].replace("_", " ")
    facts = [
        ("stopped", f"{stop} after {rounds} rounds, round {kept} kept"),
        ("steps", f"{record['steps']:,} in {duration(record['seconds'])}"),
        ("score", number(record["score"])),
        ("missed detections", number(record["missed_detections"])),
        ("random seed", str(item["seed"])),
        ("attempt", record["attempt"]),
    ]
    facts += [(f"override {name}", str(value)) for name, value in item["overrides"].items()]
    return facts + [(name, str(value)) for name, value in item["meta"].items()]


def _told(record: Record) -> Record:
    """A quarantined item with its reason in words."""
    reason = record["reason"]
    return record | {"reason_text": _REASONS.get(reason, reason.replace("_", " "))}


def _sources(item: Record) -> dict[str, Record]:
    """Every generator's source, the canvas first."""
    return {"canvas": item["canvas"], **item["insets"]}


def _label(source: Record) -> str:
    """A source in a few words: its seed, or the last part of its URI."""
    if source["kind"] == "average":
        return "average"
    if source["kind"] == "seed":
        psi = source.get("psi")
        return f"seed {source['value']}" + (f", psi {psi:g}" if psi is not None else "")
    return str(source["value"]).rstrip("/").rpartition("/")[2]


def _inset_label(item: Record) -> str:
    return ", ".join(f"{name} {_label(source)}" for name, source in item["insets"].items())


# ---- pictures ------------------------------------------------------------------------------------


def _picture(pixels: Pixels, *, is_lossless: bool) -> Picture:
    """Pixels `[H W 3]` as a data URI, reduced to the largest height that the page shows."""
    image = Image.fromarray(pixels)
    if image.height > _MAX_HEIGHT_PX:
        width = round(image.width * _MAX_HEIGHT_PX / image.height)
        image = image.resize((width, _MAX_HEIGHT_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if is_lossless:
        image.save(buffer, "WEBP", lossless=True)
    else:
        # Full chroma: a seam may be one of colour.
        image.save(buffer, "JPEG", quality=90, subsampling=0)
    kind = "webp" if is_lossless else "jpeg"
    data = base64.b64encode(buffer.getvalue()).decode()
    return Picture(f"data:image/{kind};base64,{data}", image.width, image.height)


def _zoom(inset: str, before: Pixels, after: Pixels, found: Record, *, is_lossless: bool) -> Zoom:
    """The same crop of both pictures `[H W 3]`: wherever the region was, and a margin around it."""
    regions = [Box(*found["region_before"]), Box(*found["region"])]
    frame = Box(
        math.floor(min(box.x0 for box in regions)),
        math.floor(min(box.y0 for box in regions)),
        math.ceil(max(box.x1 for box in regions)),
        math.ceil(max(box.y1 for box in regions)),
    )
    margin = round(_ZOOM_MARGIN * after.shape[0])
    frame = frame.shrink(-margin).clip(after.shape[0], after.shape[1])
    rows, columns = slice(int(frame.y0), int(frame.y1)), slice(int(frame.x0), int(frame.x1))
    crops = [_picture(p[rows, columns], is_lossless=is_lossless) for p in (before, after)]
    reduction = crops[0].width / frame.width
    marks = [_corner_marks(box, frame, margin, reduction) for box in regions]
    width = min(_MAX_ZOOM * int(frame.width), _ZOOM_WIDTH_PX)
    return Zoom(inset, width, crops[0], crops[1], marks[0], marks[1])


def _corner_marks(region: Box, frame: Box, margin: float, reduction: float) -> str:
    """Short strokes outside the four corners: they show the edge and leave it free."""
    gap, length = 0.2 * margin * reduction, 0.4 * margin * reduction
    strokes = []
    for left, outwards_x in ((region.x0 - frame.x0, -1), (region.x1 - frame.x0, 1)):
        for top, outwards_y in ((region.y0 - frame.y0, -1), (region.y1 - frame.y0, 1)):
            x, y = left * reduction, top * reduction
            strokes.append(f"M{x:.1f} {y + gap * outwards_y:.1f}v{length * outwards_y:.1f}")
            strokes.append(f"M{x + gap * outwards_x:.1f} {y:.1f}h{length * outwards_x:.1f}")
    return "".join(strokes)


# ---- the grid ------------------------------------------------------------------------------------


_Key = tuple[tuple[str, int, str, float], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Places:
    """Labels of columns and rows, in order; the item's id in each taken cell, by (row, column)."""

    columns: dict[_Key, str]
    rows: dict[_Key, str]
    item_ids: dict[tuple[_Key, _Key], str]


def _places(records: Sequence[Record], failures: Sequence[Record]) -> _Places | None:
    """Where each item stands in the grid; None if the items are no insets × canvases.

    Cells may be empty, as in a run that is still going on, but not half of them.
    """
    items = [record["item"] for record in records]
    items += _failed_items(items, failures)
    if not records or len(items) > _GRID_SIDE**2:
        return None
    columns = {_key(item["insets"].values()): _inset_label(item) for item in items}
    rows = {_key([item["canvas"]]): _label(item["canvas"]) for item in items}
    ids = {(_key([i["canvas"]]), _key(i["insets"].values())): i["item_id"] for i in items}
    has_room = max(len(rows), len(columns)) <= _GRID_SIDE and len(ids) == len(items)
    if not has_room or 2 * len(items) <= len(rows) * len(columns):
        return None
    return _Places(dict(sorted(columns.items())), dict(sorted(rows.items())), ids)


def _key(sources: Iterable[Record]) -> _Key:
    """What tells sources apart and sorts them: seeds as numbers, everything else as text."""
    return tuple(
        (
            source["kind"],
            source["value"] if source["kind"] == "seed" else 0,
            str(source["value"]),
            -1.0 if source["psi"] is None else source["psi"],
        )
        for source in sources
    )


def _failed_items(done: Iterable[Record], failures: Iterable[Record]) -> list[Record]:
    """What failed items were made from: their records do not say, but the ids of a montage do."""
    if not all(item["item_id"] == _montage_id(item) for item in done):
        return []
    named = [match for record in failures if (match := _MONTAGE_ID.fullmatch(record["item_id"]))]
    return [
        {"item_id": match[0], "canvas": _seed(match[1]), "insets": {"face": _seed(match[2])}}
        for match in named
    ]


def _montage_id(item: Record) -> str:
    """The name that `manifest.montage_items` would give to the item."""
    return f"body{item['canvas']['value']}-face{item['insets'].get('face', {}).get('value')}"


def _seed(digits: str) -> Record:
    return {"kind": "seed", "value": int(digits), "psi": None}


def _grid(places: _Places, entries: Iterable[Entry], failures: Iterable[Record]) -> Grid:
    """The places with what belongs there."""
    done = {entry.item_id: entry for entry in entries}
    failed = {record["item_id"]: record for record in failures}
    cells = {at: Cell(done.get(name), failed.get(name)) for at, name in places.item_ids.items()}
    in_row = {row: cell.entry.pairs[:1] for (row, _), cell in cells.items() if cell.entry}
    in_column = {column: cell.entry.pairs[1:] for (_, column), cell in cells.items() if cell.entry}

    def head(label: str, pairs: list[Pair]) -> Head:
        return Head(label, [pair.reference for pair in pairs])

    return Grid(
        columns=[head(label, in_column.get(key, [])) for key, label in places.columns.items()],
        rows=[
            (
                head(label, in_row.get(row, [])),
                [cells.get((row, column), Cell(None, None)) for column in places.columns],
            )
            for row, label in places.rows.items()
        ],
    )


# ---- loss curves ---------------------------------------------------------------------------------


def _charts(losses: results.LossTable, best_round: int) -> list[Chart]:
    """Small multiples over one x axis: the steps of all phases, one after the other."""
    rounds, terms, raw = losses.round, np.asarray(losses.term), losses.raw
    if not len(terms):
        return []
    moments = zip(rounds.tolist(), losses.phase, losses.step.tolist(), strict=True)
    starts = [a != b for a, b in itertools.pairwise(moments)]
    x = np.concatenate([[0], np.cumsum(starts)])
    kept = x[rounds < best_round]
    shaded = _runs(x, np.asarray([phase == "canvas" for phase in losses.phase]))
    families: dict[str, list[str]] = {}
    for term in sorted(set(losses.term), key=_term_order):
        families.setdefault(_family(term), []).append(term)
    return [
        _chart(
            family,
            {term: (x[terms == term], raw[terms == term]) for term in members},
            int(x[-1]) + 1,
            shaded,
            int(kept.max()) + 1 if len(kept) else 0,
        )
        for family, members in families.items()
    ]


def _chart(
    family: str,
    curves: dict[str, tuple[NDArray[Any], NDArray[Any]]],
    steps: int,
    shaded: list[tuple[int, int]],
    kept: int,
) -> Chart:
    """curves: (step, raw value) by term; shaded: steps from and to in which the canvas moves."""
    frame = Frame()
    scale = _Scale.of(np.concatenate([y[np.isfinite(y)] for _, y in curves.values()]))
    paths = [_path(x / steps, scale.share(y), np.diff(x) > 1, frame) for x, y in curves.values()]
    return Chart(
        title=family,
        meaning=_FAMILIES.get(family, ""),
        is_log=scale.is_log,
        lines=[
            Line(_term_label(term, curves), path, style)
            for style, (term, path) in enumerate(zip(curves, paths, strict=True))
        ],
        x_ticks=[Tick(frame.x(t / steps), f"{t:g}") for t in _linear_ticks(steps, 5)],
        y_ticks=[Tick(frame.y(scale.share(t)), f"{t:g}") for t in scale.ticks()],
        shaded=[(frame.x(start / steps), frame.x(end / steps)) for start, end in shaded],
        kept_at=frame.x(kept / steps) if kept else None,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Scale:
    """A y axis from `low` to `high`."""

    low: float
    high: float
    is_log: bool

    @classmethod
    def of(cls, values: NDArray[Any]) -> _Scale:
        """From 0, or logarithmic over at most four decades where small values would be lost."""
        high = float(values.max(initial=0.0)) or 1.0
        low = max(float(values[values > 0].min(initial=high)), high * 1e-4)
        if high > 10 * low:
            return cls(low * 0.9, high * 1.1, True)
        return cls(0.0, high * 1.05, False)

    def share(self, values: Any) -> Any:
        """0 at the lower end and 1 at the upper one; what lies below is moved to the end."""
        if not self.is_log:
            return np.asarray(values) / self.high
        clipped = np.maximum(values, self.low)
        return np.log(clipped / self.low) / math.log(self.high / self.low)

    def ticks(self) -> list[float]:
        if not self.is_log:
            return _linear_ticks(self.high, 4)
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        factors = [1, 2, 5] if self.high < 50 * self.low else [1, 3]
        if self.high > 500 * self.low:
            factors = [1]
        ticks = [float(f"{factor}e{decade}") for decade in decades for factor in factors]
        return [tick for tick in ticks if self.low <= tick <= self.high]


def _linear_ticks(high: float, wanted: int) -> list[float]:
    """0 and round numbers up to `high`, about as many as wanted."""
    rough = high / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(n * power for n in (1, 2, 5, 10) if n * power >= rough)
    return [float(f"{n * step:.6g}") for n in range(int(high / step) + 1)]


def _path(x: NDArray[Any], y: NDArray[Any], gaps: NDArray[Any], frame: Frame) -> str:
    """SVG path through shares of the axes, thinned, broken where the term was not measured."""
    piece = np.concatenate([[0], np.cumsum(gaps)])
    wanted = np.linspace(0, len(x) - 1, min(len(x), _CURVE_POINTS)).round().astype(int)
    kept = [i for i in np.unique(wanted).tolist() if math.isfinite(y[i])]
    before = [None, *(piece[i] for i in kept)]
    return "".join(
        f"{'L' if piece[i] == last else 'M'}{frame.x(x[i]):g} {frame.y(y[i]):g}"
        for i, last in zip(kept, before, strict=False)
    )


def _runs(x: NDArray[Any], wanted: NDArray[Any]) -> list[tuple[int, int]]:
    """First step of every run in which `wanted` holds, and the one after its last."""
    runs = []
    pairs = zip(x.tolist(), wanted.tolist(), strict=True)
    for holds, group in itertools.groupby(pairs, key=lambda pair: pair[1]):
        steps = [step for step, _ in group]
        if holds:
            runs.append((steps[0], steps[-1] + 1))
    return runs


def _family(term: str) -> str:
    """`face.border.l1` → border; the offsets count as latent."""
    family = term.split(".")[1]
    return "latent" if family == "delta" else family


def _term_order(term: str) -> tuple[int, str]:
    family = _family(term)
    return (list(_FAMILIES).index(family) if family in _FAMILIES else len(_FAMILIES), term)


def _term_label(term: str, among: Iterable[str]) -> str:
    """A term's name below its family's: with the generator's where there are several."""
    generator, family, *distance = term.split(".")
    words = [_DISTANCES.get(word, word) for word in distance] or [family]
    is_alone = len({other.split(".")[0] for other in among}) == 1
    return " ".join(words if is_alone else [generator, *words])


# ---- table and recipe ----------------------------------------------------------------------------

_MEASURES = (
    ("seam", "before", "seam_before"),
    ("seam", "after", "seam_after"),
    ("seam", "ratio", "seam_ratio"),
    ("optimisation", "score", "score"),
    ("optimisation", "rounds", "rounds"),
    ("optimisation", "kept", "best_round"),
    ("optimisation", "steps", "steps"),
    ("optimisation", "seconds", "seconds"),
)


def _table(records: Sequence[Record]) -> tuple[list[Column], list[list[Value]]]:
    """One row per item: its measures, then every raw loss of the round that was kept."""
    terms = sorted({term for record in records for term in record["losses"]}, key=_term_order)
    columns = [Column("", "item", False)]
    columns += [Column(group, title, True) for group, title, _ in _MEASURES]
    columns += [Column("optimisation", "stop", False)]
    for term in terms:
        family = _family(term)
        among = [other for other in terms if _family(other) == family]
        columns.append(Column(f"{family} loss", _term_label(term, among), True))
    return columns, [_row(record, terms) for record in records]


def _row(record: Record, terms: Iterable[str]) -> list[Value]:
    before, after = record["seam_before"], record["seam_after"]
    measures = record | {"seam_ratio": after / before if before and after is not None else None}
    values = [measures[name] for _, _, name in _MEASURES]
    losses = [record["losses"].get(term) for term in terms]
    return [
        Value(record["item_id"]),
        *(Value(number(value), value) for value in values),
        Value(record["stop"].replace("_", " ")),
        *(Value(number(value), value) for value in losses),
    ]


def _recipe(recipe: Record | None) -> Record | None:
    """The recipe, with a table of weights: one row per term, one value per generator."""
    if recipe is None:
        return None
    players = {"canvas": recipe["canvas"], **recipe["insets"]}
    weights: dict[str, list[str]] = {}
    for family in (*_FAMILIES, "delta"):
        for distance, title in (_DISTANCES | {"": ""}).items():
            found = [_weight(player.get(family), distance) for player in players.values()]
            if any(found):
                weights[f"{family} {title}".strip()] = [f"{w:g}" if w else "" for w in found]
    return recipe | {"players": players, "weights": weights}


def _weight(setting: Any, distance: str) -> float:
    """A family's weight for a distance ("" for those that have none), 0 if there is none."""
    if isinstance(setting, dict):
        return float(setting.get(distance, 0))
    return float(setting or 0) if not distance else 0.0


# ---- words ---------------------------------------------------------------------------------------


def number(value: float | None) -> str:
    """Three digits that count; a dash for what is missing."""
    if value is None:
        return "–"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def level(value: float | None) -> str:
    """A seam: levels of 0..255 with one decimal."""
    return "–" if value is None else f"{value:.1f}"


def change(before: float | None, after: float | None) -> str:
    """By how much a number fell or rose; nothing where that cannot be said."""
    if not before or after is None:
        return ""
    return f"{'fell' if after < before else 'rose'} by {abs(after / before - 1):.0%}"


def duration(seconds: float | None) -> str:
    """Seconds in the unit that people would use."""
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def moment(stamp: str) -> str:
    """A time of ISO 8601 to the minute, for people; any other text as it is."""
    try:
        return f"{datetime.fromisoformat(stamp):%d %B %Y, %H:%M %Z}".strip()
    except ValueError:
        return stamp


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"level": level, "duration": duration, "moment": moment}
    environment.globals |= {"change": change}
    return environment.get_template("report.html.jinja")


_TEMPLATE = _template()
