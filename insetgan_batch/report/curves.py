"""Loss curves: the table of an item's losses becomes small charts, one per family.

A chart is plain numbers in whole units of its drawing, small enough to keep ten thousand of them;
the page's script puts them into SVG.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insetgan_batch.data.results import LossTable
from insetgan_batch.method import LossFamily, Page

_POINTS = 80


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One curve. pieces: x0, y0, x1, y1, ... of each unbroken part; style: place in the palette."""

    label: str
    style: int
    pieces: list[list[int]]


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """A number on an axis and where it stands."""

    at: int
    label: str


@dataclasses.dataclass(frozen=True, slots=True)
class Chart:
    """The losses of one family over the steps, in units of a `PlotArea`."""

    title: str
    meaning: str
    is_log: bool
    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    shaded: list[tuple[int, int]]
    kept_at: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class PlotArea:
    """Where the axes of every chart lie, in units of its SVG."""

    width: int = 680
    height: int = 352
    left: int = 88
    right: int = 664
    top: int = 16
    bottom: int = 292

    def x(self, share: Any) -> Any:
        """From 0..1 to the left and right end, a number or an array."""
        return _whole(self.left + np.asarray(share) * (self.right - self.left))

    def y(self, share: Any) -> Any:
        """From 0..1 to the lower and upper end, a number or an array."""
        return _whole(self.bottom - np.asarray(share) * (self.bottom - self.top))


def charts(losses: LossTable, kept_round: int, page: Page) -> list[Chart]:
    """Small multiples over one x axis: the steps of all phases, one after the other."""
    if not len(losses.term):
        return []
    names, phases, raw = np.asarray(losses.term), np.asarray(losses.phase), losses.raw
    starts = phases[1:] != phases[:-1]
    for column in (losses.round, losses.step):
        starts |= column[1:] != column[:-1]
    x = np.concatenate([[0], np.cumsum(starts)])
    kept = x[losses.round <= kept_round]
    shaded = _runs(x, phases == page.shaded_phase)
    of_term = {term: names == term for term in set(losses.term)}
    return [
        _chart(
            family,
            {term: (x[of_term[term]], raw[of_term[term]]) for term in family.labels},
            int(x[-1]) + 1,
            shaded,
            int(kept.max()) + 1 if len(kept) else 0,
        )
        for family in page.loss_families(of_term)
    ]


def _chart(
    family: LossFamily,
    curves: dict[str, tuple[NDArray[Any], NDArray[Any]]],
    steps: int,
    shaded: list[tuple[int, int]],
    kept: int,
) -> Chart:
    """curves: (step, raw value) by term; shaded: steps, each part from and to."""
    area = PlotArea()
    scale = _Scale.of(np.concatenate([y[np.isfinite(y)] for _, y in curves.values()]))
    pieces = [_pieces(x, y, steps, scale, area) for x, y in curves.values()]
    return Chart(
        title=family.title,
        meaning=family.meaning,
        is_log=scale.is_log,
        lines=[
            Line(label, style, found)
            for style, (label, found) in enumerate(zip(family.labels.values(), pieces, strict=True))
        ],
        x_ticks=[Tick(area.x(t / steps), f"{t:g}") for t in _linear_ticks(steps, 5)],
        y_ticks=[Tick(area.y(scale.share(t)), f"{t:g}") for t in scale.ticks()],
        shaded=[(area.x(start / steps), area.x(end / steps)) for start, end in shaded],
        kept_at=area.x(kept / steps) if kept else None,
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
        """Round numbers between the ends, fewer per decade the more decades there are."""
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


def _pieces(
    x: NDArray[Any], y: NDArray[Any], steps: int, scale: _Scale, area: PlotArea
) -> list[list[int]]:
    """A curve thinned, brought to the drawing, and broken where the term was not measured."""
    piece = np.concatenate([[0], np.cumsum(np.diff(x) > 1)])
    kept = np.linspace(0, len(x) - 1, min(len(x), _POINTS)).round().astype(int)
    kept = kept[np.isfinite(y[kept])]
    points = np.stack([area.x(x[kept] / steps), area.y(scale.share(y[kept]))], axis=1)
    breaks = np.flatnonzero(np.diff(piece[kept])) + 1
    return [part.ravel().tolist() for part in np.split(points, breaks) if len(part)]


def _runs(x: NDArray[Any], wanted: NDArray[Any]) -> list[tuple[int, int]]:
    """First step of every run in which `wanted` holds, and the one after its last."""
    edges = np.flatnonzero(np.diff(wanted.astype(np.int8), prepend=0, append=0))
    ends = np.append(x, x[-1] + 1)[edges].tolist()
    return list(zip(ends[::2], ends[1::2], strict=True))


def _whole(values: NDArray[Any]) -> Any:
    """Whole units: an int for a number, an array for an array."""
    rounded = np.rint(values).astype(int)
    return rounded if rounded.ndim else int(rounded)
