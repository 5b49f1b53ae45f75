"""Lines through measured points."""

from __future__ import annotations

import random

import pytest

from smoe_ds.scaling.line import Line, fit_line


def test_points_on_a_line_give_it_back() -> None:
    line = Line(2e-4, 5e9)
    found = fit_line([(work, line.seconds(work)) for work in (1e3, 1e5, 1e6, 1e8)])
    assert (found.fixed, found.per_second) == pytest.approx((line.fixed, line.per_second))
    assert line.seconds(1e9, calls=10) == pytest.approx(10 * 2e-4 + 0.2)


@pytest.mark.parametrize("seed", range(20))
def test_is_the_best_line_in_relative_terms(seed: int) -> None:
    draw = random.Random(seed)
    points = [(10.0**power, draw.uniform(0.5, 1.5) * (1e-3 + 10.0**power / 1e6)) for power in range(1, 6)]

    def badness(line: Line) -> float:
        return sum((line.seconds(work) / seconds - 1) ** 2 for work, seconds in points)

    found = fit_line(points)
    for _ in range(200):
        other = Line(max(0.0, found.fixed * draw.gauss(1, 0.1)), found.per_second * draw.lognormvariate(0, 0.1))
        assert badness(found) <= badness(other) * (1 + 1e-9)


def test_never_below_no_time() -> None:
    faster_than_linear = fit_line([(1.0, 1.0), (10.0, 12.0), (100.0, 150.0)])
    assert faster_than_linear.fixed == 0
    flat = fit_line([(1.0, 5.0), (10.0, 4.0), (100.0, 3.0)])
    assert flat.seconds(100) == pytest.approx(3.9, abs=0.3)
    assert fit_line([(10.0, 2.0), (10.0, 2.0)]) == Line(0.0, 5.0)


@pytest.mark.parametrize("values", [(-1.0, 1.0), (0.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_lines_that_cannot_be(values: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="expected fixed of 0 or more"):
        Line(*values)
