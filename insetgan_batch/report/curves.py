"""Loss curves: the table of an item's losses becomes small charts in SVG, one per family."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insetgan_batch.data.results import LossTable
from insetgan_batch.report import terms

_POINTS = 300


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


def charts(losses: LossTable, best_round: int) -> list[Chart]:
    """Small multiples over one x axis: the steps of all phases, one after the other."""
    rounds, names, raw = losses.round, np.asarray(losses.term), losses.raw
    if not len(names):
        return []
    moments = zip(rounds.tolist(), losses.phase, losses.step.tolist(), strict=True)
    starts = [a != b for a, b in itertools.pairwise(moments)]
    x = np.concatenate([[0], np.cumsum(starts)])
    kept = x[rounds <= best_round]
    shaded = _runs(x, np.asarray([phase == "canvas" for phase in losses.phase]))
    families: dict[str, list[str]] = {}
    for term in sorted(set(losses.term), key=terms.order):
        families.setdefault(terms.family(term), []).append(term)
    return [
        _chart(
            family,
            {term: (x[names == term], raw[names == term]) for term in members},
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
        meaning=terms.FAMILIES.get(family, ""),
        is_log=scale.is_log,
        lines=[
            Line(terms.label(term, curves), path, style)
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


def _path(x: NDArray[Any], y: NDArray[Any], gaps: NDArray[Any], frame: Frame) -> str:
    """SVG path through shares of the axes, thinned, broken where the term was not measured."""
    piece = np.concatenate([[0], np.cumsum(gaps)])
    wanted = np.linspace(0, len(x) - 1, min(len(x), _POINTS)).round().astype(int)
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
