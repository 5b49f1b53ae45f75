"""Charts: ticks are round and cover the values, points and bars lie where their numbers say, long lines are thinned."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from smoe_ds.report.run_report.charts import Line, bar_chart, line_chart, thinned, ticks

SVG = "{http://www.w3.org/2000/svg}"


def parsed(chart: object) -> ElementTree.Element:
    return ElementTree.fromstring(str(chart).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (3.1, 3.2), (-5, 12345), (0, 3e-7), (2, 2), (0, 0), (1e9, 1e9 + 1)])
def test_ticks_are_round_and_cover(low: float, high: float) -> None:
    found = ticks(low, high)
    assert found[0] <= low and found[-1] >= high
    assert 2 <= len(found) <= 8
    steps = [b - a for a, b in pairwise(found)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    factor = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
    assert min(abs(factor - one) for one in (1, 2, 2.5, 5, 10)) < 1e-6


def test_points_lie_where_their_numbers_say() -> None:
    chart = parsed(line_chart([Line("a", [(0, 1.0), (50, 3.0), (75, math.nan), (100, 2.0)])], "<loss>", "step"))
    assert chart.get("aria-label") == "<loss>"
    marks = [(float(one.get("cx", "")), float(one.get("cy", ""))) for one in chart.iter(f"{SVG}circle")]
    assert len(marks) == 3
    xs = [x for x, _ in marks]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1])
    (y0, y1, y2) = (y for _, y in marks)
    assert y1 < y2 < y0  # upwards is less
    assert y0 - y2 == pytest.approx(y2 - y1, abs=0.2)
    assert line_chart([Line("a", [(1, math.inf)]), Line("b", [])], "x", "step") is None


def test_long_lines_keep_their_mean_and_ends() -> None:
    points = [(float(x), float(x * x)) for x in range(1000)]
    few = thinned(points, 100)
    assert len(few) == 100
    assert sum(y for _, y in few) / 100 == pytest.approx(sum(y for _, y in points) / 1000)
    assert thinned(points[:100], 100) == points[:100]


def test_bars_begin_at_the_start_and_escape() -> None:
    series = {"encoder": {"<b>": 1.0, "x": 2.0}, "decoder": {"x": 3.0}}
    chart = parsed(bar_chart(["<b>", "x"], series, "t", start=1.0, end=3.0))
    widths = [float(one.get("width", "")) for one in chart.iter(f"{SVG}rect")]
    assert widths[0] == 0.5  # nothing, but seen
    assert widths[2] == pytest.approx(2 * widths[1])
    assert [one.text for one in chart.iter(f"{SVG}text")] == ["<b>", "1.00", "x", "2.00", "3.00"]
    width = int(re.findall(r"\d+", chart.get("viewBox", ""))[2])
    assert max(float(one.get("x", "")) + float(one.get("width", "")) for one in chart.iter(f"{SVG}rect")) <= width - 40
    assert bar_chart([], {}, "t", start=1.0, end=1.0) is None
