"""Learning curves of a study: validation NLL after equal updates, equal tokens and equal time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from smoe_ds.report.tables import Column, Table
from smoe_ds.study.compare import SystemResult

_ROWS = 10
Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """What a curve is drawn against.

    Attributes:
        name: for a reader, with the unit.
        place: in a point of `SystemResult.curve`.
        unit: what a point is divided by.
        format: of its values.
    """

    name: str
    place: int
    unit: float
    format: str


AXES = (
    Axis("updates", 0, 1, ",.0f"),
    Axis("million tokens", 1, 1e6, ",.2f"),
    Axis("hours of training", 2, 3600, ".3f"),
)
TIME = "Hours of training: steps and waiting for data; validation and saving left out."
_BETWEEN = "Straight lines between validations."


def points(one: SystemResult, axis: Axis) -> list[Point]:
    """A system's curve."""
    return [(point[axis.place] / axis.unit, point[3]) for point in one.curve]


def curves_table(results: Sequence[SystemResult], axis: Axis) -> Table:
    """Validation NLL along an axis, a column for each system, at ten places from the first validation to the last."""
    curves = [points(one, axis) for one in results]
    found = sorted({x for curve in curves for x, _ in curve})
    if axis.place == 0:
        chosen = sorted({found[round(i * (len(found) - 1) / (_ROWS - 1))] for i in range(_ROWS)}) if found else []
    else:
        apart = bool(found) and found[-1] > found[0]
        chosen = [found[0] + (found[-1] - found[0]) * i / (_ROWS - 1) for i in range(_ROWS)] if apart else []
    columns = (
        Column(axis.name, "x", format=axis.format),
        *(Column(one.name, f"system_{place}", format=".4f", missing="") for place, one in enumerate(results)),
    )
    notes = {0: (), 1: (_BETWEEN,), 2: (f"{TIME} {_BETWEEN}",)}[axis.place]
    return Table(columns, tuple((x, *(value_at(curve, x) for curve in curves)) for x in chosen), notes)


def value_at(curve: Sequence[Point], x: float) -> float | None:
    """A curve at a place, between two of its points in a straight line; None before the first and behind the last."""
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x0 <= x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0) if x1 > x0 else y1
    return next((y for at, y in curve if at == x), None)


def differences_from(results: Sequence[SystemResult], against: str | None) -> dict[str, list[Point]]:
    """Validation NLL minus that of the other system at the same updates, by system; nothing without such a one."""
    base = next((dict(points(one, AXES[0])) for one in results if one.name == against), {})
    found = {}
    for one in results:
        if one.name != against and (own := [(x, y - base[x]) for x, y in points(one, AXES[0]) if x in base]):
            found[one.name] = own
    return found
