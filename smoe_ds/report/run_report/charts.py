"""Charts as SVG that takes its colours from the page: lines over steps, bars from a common start, means and errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

Point = tuple[float, float]
_MOST_POINTS = 300
_MARKED = 40
"""Lines of at most so many points have a mark at each, so that a single one is seen."""
_WIDTH, _HEIGHT = 460, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 26, 10, 34
_BAR, _GAP = 13, 7


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: for the legend.
        points: (x, y), ascending x; those that are not finite are left out.
    """

    name: str
    points: Sequence[Point]


def line_chart(lines: Sequence[Line], title: str, x_title: str) -> Markup | None:
    """Lines over a common x; their colours and dashes go by their place. None where there is no point.

    Args:
        lines: their x is at least 0, where the axis begins.
        title: what a screen reader says.
        x_title: below the axis.
    """
    shown = [thinned([point for point in line.points if all(map(math.isfinite, point))]) for line in lines]
    every = [point for points in shown for point in points]
    if not every:
        return None
    x_ticks = ticks(0, max(x for x, _ in every))
    y_ticks = ticks(min(y for _, y in every), max(y for _, y in every))
    x_of, y_of = _scale(x_ticks, _LEFT, _WIDTH - _RIGHT), _scale(y_ticks, _HEIGHT - _BOTTOM, _TOP)
    parts = [Markup("")]
    for value in y_ticks:
        y = y_of(value)
        parts.append(Markup('<path class="rule" d="M{} {:.1f}H{}"/>').format(_LEFT, y, _WIDTH - _RIGHT))
        parts.append(_text(_LEFT - 6, y + 4, f"{value:,g}", "end"))
    parts += [_text(x_of(value), _HEIGHT - 18, f"{value:,g}", "middle") for value in x_ticks]
    parts.append(_text(_WIDTH - _RIGHT, _HEIGHT - 3, x_title, "end"))
    for number, points in enumerate(shown):
        placed = [(x_of(x), y_of(y)) for x, y in points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        if path:
            parts.append(Markup('<path class="line {}" d="M{}"/>').format(series_class(number), path))
        if len(placed) <= _MARKED:
            mark = Markup('<circle class="mark {}" cx="{:.1f}" cy="{:.1f}" r="3"/>')
            parts += [mark.format(series_class(number), x, y) for x, y in placed]
    return _svg(title, _WIDTH, _HEIGHT, parts)


def bar_chart(
    groups: Sequence[str], series: Mapping[str, Mapping[str, float]], title: str, *, start: float, end: float
) -> Markup | None:
    """Horizontal bars, the values written beside them; None where there is no value.

    Args:
        groups: names of the groups, from top to bottom.
        series: values by group, by the name of a series; a group may lack one.
        title: what a screen reader says.
        start: value at which all bars begin.
        end: the value of the longest bar that there could be.
    """
    if not groups:
        return None
    label_width = min(170, 14 + 7 * max(map(len, groups)))
    span = max(end - start, 1e-9)
    parts, y = [Markup("")], 4
    for group in groups:
        own = [(number, of[group]) for number, of in enumerate(series.values()) if group in of]
        parts.append(_text(label_width - 6, y + _BAR * len(own) / 2 + 4, _short(group), "end"))
        for number, value in own:
            width = max((value - start) / span, 0) * (_WIDTH - label_width - 46)
            bar = Markup('<rect class="bar {}" x="{}" y="{}" width="{:.1f}" height="{}"/>')
            parts.append(bar.format(series_class(number), label_width, y, max(width, 0.5), _BAR - 2))
            parts.append(_text(label_width + width + 4, y + _BAR - 4, f"{value:.2f}", "start", "value"))
            y += _BAR
        y += _GAP
    parts.append(Markup('<path class="axis" d="M{} 0V{}"/>').format(label_width, y))
    return _svg(title, _WIDTH, y, parts)


@dataclass(frozen=True)
class Interval:
    """A row of an interval chart.

    Attributes:
        name: of the row.
        mean: is marked by a line across.
        error: the row has a line from ``mean - error`` to ``mean + error``; None for no line.
        values: what it is the mean of; each is a point.
    """

    name: str
    mean: float
    error: float | None
    values: Sequence[float]


def interval_chart(rows: Sequence[Interval], title: str, x_title: str, form: str) -> Markup | None:
    """Means with their errors and the values behind them, one below the other; None without a row.

    Args:
        rows: from top to bottom.
        title: what a screen reader says.
        x_title: below the axis.
        form: of the means, which are written at the right.
    """
    every = [x for row in rows for x in (*row.values, row.mean - (row.error or 0), row.mean + (row.error or 0))]
    if not every:
        return None
    left = min(170, 14 + 7 * max(len(row.name) for row in rows))
    marks, bottom = ticks(min(every), max(every), 4), 4 + 22 * len(rows)
    x_of = _scale(marks, left + 8, _WIDTH - 72)
    parts = [Markup("")]
    for value in marks:
        parts.append(Markup('<path class="rule" d="M{:.1f} 0V{}"/>').format(x_of(value), bottom))
        parts.append(_text(x_of(value), bottom + 16, f"{value:,g}", "middle"))
    parts.append(_text(_WIDTH - 4, bottom + 31, x_title, "end"))
    for number, row in enumerate(rows):
        y = 15 + 22 * number
        parts.append(_text(left, y + 4, _short(row.name), "end"))
        if row.error is not None:
            line = Markup('<path class="line {}" d="M{:.1f} {}H{:.1f}"/>')
            parts.append(line.format(series_class(0), x_of(row.mean - row.error), y, x_of(row.mean + row.error)))
        parts.append(Markup('<path class="line {}" d="M{:.1f} {}v12"/>').format(series_class(0), x_of(row.mean), y - 6))
        mark = Markup('<circle class="mark {}" cx="{:.1f}" cy="{}" r="2.5"/>')
        parts += [mark.format(series_class(1), x_of(value), y) for value in row.values]
        parts.append(_text(_WIDTH - 4, y + 4, format(row.mean, form), "end", "value"))
    return _svg(title, _WIDTH, bottom + 36, parts)


def series_class(number: int) -> str:
    """The class that colours the ``number``-th series; there are six, then they come again with other dashes."""
    return f"s{number % 6} d{number // 6 % 3}"


def thinned(points: Sequence[Point], most: int = _MOST_POINTS) -> list[Point]:
    """At most ``most`` points: means of neighbours."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / most)
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from at most ``low`` to at least ``high``, evenly spaced; at least two."""
    if high - low <= 1e-12 * max(abs(low), abs(high), 1.0):
        low, high = low - 0.1 * (abs(low) or 1.0), high + 0.1 * (abs(high) or 1.0)
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _scale(marks: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    """Where values lie on an axis whose first and last marks lie at ``start`` and ``end``."""
    low, span = marks[0], marks[-1] - marks[0]
    return lambda value: start + (value - low) / span * (end - start)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "label") -> Markup:
    made = Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    return made.format(kind, x, y, anchor, text)


def _short(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:23]}…"


def _svg(title: str, width: float, height: float, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg role="img" viewBox="0 0 {} {}" aria-label="{}">').format(width, height, title)
    return head + Markup("").join(parts) + Markup("</svg>")
