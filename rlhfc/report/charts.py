"""Geometry of the report's drawings: pure functions from figures to coordinates.

The template turns them into SVG, so that all text goes through its escaping. Units are those of each
drawing's ``viewBox``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 340, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 8, 22
SMOOTH_FROM = 40  # points; below that the raw line is legible
BOUNDS = ("_low", "_high")  # ends of names that bound another's value
# Titles and the names that share a panel, in the order of the report.
PANELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("loss", ("loss", "eval_loss")),
    ("perplexity, held out", ("eval_perplexity",)),
    ("accuracy, held out", ("eval_accuracy", "eval_accuracy_low", "eval_accuracy_high")),
    ("score of chosen and rejected", ("eval_chosen_score", "eval_rejected_score")),
    ("score", ("score",)),
    ("reward", ("reward",)),
    ("KL, nats", ("kl",)),
    ("response length, tokens", ("response_length", "response_length_p95")),
    ("actor loss", ("actor_loss",)),
    ("critic loss", ("critic_loss",)),
)
NOT_CURVES = frozenset({"step", "total", "seconds", "rank"})


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """One series.

    Attributes:
        points: ``x,y x,y …``.
        smooth: the same, smoothed; empty when there are few points.
        last: newest value, for people.
        colour: number of its colour.
        bound: whether it is the end of an interval, drawn faint and not named.
    """

    name: str
    points: str
    smooth: str
    last: str
    colour: int = 0
    bound: bool = False


@dataclass(frozen=True)
class Panel:
    """One chart."""

    title: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


Series = Mapping[str, Sequence[tuple[float, float]]]


def series_of(metrics: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Collect (step, value) of every number in metric lines; samples and text are left out."""
    series: dict[str, list[tuple[float, float]]] = {}
    for line in metrics:
        step = line.get("step")
        if not isinstance(step, int) or line.get("phase") == "sample":
            continue
        for name, value in line.items():
            usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if usable and name not in NOT_CURVES:
                series.setdefault(name, []).append((step, value))
    return series


def panels_of(series: Series) -> tuple[list[Panel], list[Panel]]:
    """Draw the panels that matter, and those of everything else; a single point makes no curve."""
    drawn = {name: points for name, points in series.items() if len(points) > 1}
    main: list[Panel] = []
    taken: set[str] = set()
    for title, names in PANELS:
        here = {name: drawn[name] for name in names if name in drawn}
        taken.update(here)
        if here:
            main.append(panel(title, here))
    rest = [panel(name.replace("_", " "), {name: drawn[name]}) for name in drawn if name not in taken]
    return main, rest


def panel(title: str, series: Series) -> Panel:
    """Draw one chart; each series has at least one point."""
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    x_low, x_high = _span(min(xs), max(xs))
    y_ticks = nice_ticks(*_span(min(ys), max(ys)))
    y_low, y_high = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low)
        up = (y - y_low) / (y_high - y_low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    def path(points: Iterable[tuple[float, float]]) -> str:
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))

    colours = {name: index for index, name in enumerate(name for name in series if not name.endswith(BOUNDS))}
    lines = [
        Line(
            name=name.replace("_", " "),
            points=path(points),
            smooth=path(smoothed(points)) if len(points) >= SMOOTH_FROM else "",
            last=number(points[-1][1]),
            colour=colours.get(_bounded(name), 0) % 4,
            bound=name.endswith(BOUNDS),
        )
        for name, points in series.items()
    ]
    x_ticks = [x for x in nice_ticks(x_low, x_high) if x_low <= x <= x_high]
    return Panel(
        title=title,
        lines=tuple(lines),
        x_ticks=tuple(Tick(place(x, y_low)[0], number(x)) for x in x_ticks),
        y_ticks=tuple(Tick(place(x_low, y)[1], number(y)) for y in y_ticks),
    )


def _bounded(name: str) -> str:
    return name.removesuffix("_low").removesuffix("_high")


def smoothed(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Average each point with its neighbours on both sides, fewer towards the ends: no lag."""
    reach = max(2, len(points) // 24)
    out = []
    for index, (x, _) in enumerate(points):
        side = min(reach, index, len(points) - 1 - index)
        near = [y for _, y in points[index - side : index + side + 1]]
        out.append((x, sum(near) / len(near)))
    return out


def nice_ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Choose round values that span ``low`` to ``high``: steps of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def number(value: float) -> str:
    """A number short enough for an axis."""
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        mantissa, _, exponent = f"{value:.2g}".partition("e")
        return f"{mantissa}e{int(exponent)}" if exponent else mantissa
    return f"{value:.4g}"


def _span(low: float, high: float) -> tuple[float, float]:
    """Widen an empty span, so that a constant has a middle to lie in."""
    if high > low:
        return low, high
    margin = abs(low) * 0.1 or 1.0
    return low - margin, high + margin
