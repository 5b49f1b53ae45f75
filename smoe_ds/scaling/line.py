"""Time as a straight line over work: what each call costs by itself, and how much work gets done in a second beyond.

The one shape behind all constants of the step time. For messages it is the usual latency and bandwidth; for matrix
products it says how much slower few rows are: ``work / seconds(work)`` is the rate that is reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_STEEPEST = 100.0  # a slope is at least this much flatter than the largest point's own seconds per work


@dataclass(frozen=True)
class Line:
    """Seconds of a call with so much work: ``fixed + work / per_second``.

    Attributes:
        fixed: what a call costs whatever its work [s].
        per_second: work done per second beyond that.

    Raises:
        ValueError: a negative cost, or a rate that is not above 0.
    """

    fixed: float
    per_second: float

    def __post_init__(self) -> None:
        if not (0 <= self.fixed < float("inf") and 0 < self.per_second < float("inf")):
            raise ValueError(f"expected fixed of 0 or more and per_second above 0, found {self}")

    def seconds(self, work: float, calls: float = 1.0) -> float:
        """Seconds of ``calls`` calls with ``work`` work in all [s]."""
        return calls * self.fixed + work / self.per_second


def fit_line(points: Sequence[tuple[float, float]]) -> Line:
    """The line through measured points that is nearest to them in relative terms (weighted least squares).

    Args:
        points: work and seconds, both above 0; at least one. Of one amount of work alone a rate follows, no fixed cost.

    Returns:
        The line; where the best one would cross below 0 s at no work, the best through the origin, and where time does
        not grow with work at all, one that hardly does.
    """
    weights = [1 / seconds**2 for _, seconds in points]
    total = sum(weights)
    mean_work = sum(w * work for w, (work, _) in zip(weights, points, strict=True)) / total
    mean_seconds = sum(w * seconds for w, (_, seconds) in zip(weights, points, strict=True)) / total
    spread = sum(w * (work - mean_work) ** 2 for w, (work, _) in zip(weights, points, strict=True))
    if spread <= 1e-12 * total * mean_work**2:
        return Line(0.0, mean_work / mean_seconds)
    slope = (
        sum(w * (work - mean_work) * (s - mean_seconds) for w, (work, s) in zip(weights, points, strict=True)) / spread
    )
    largest_work, largest_seconds = max(points)
    slope = max(slope, largest_seconds / largest_work / _STEEPEST)
    fixed = mean_seconds - slope * mean_work
    if fixed >= 0:
        return Line(fixed, 1 / slope)
    squares = sum(w * work**2 for w, (work, _) in zip(weights, points, strict=True))
    products = sum(w * work * seconds for w, (work, seconds) in zip(weights, points, strict=True))
    return Line(0.0, squares / products)
