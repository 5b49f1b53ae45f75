"""Findings of ranks merged into as few lines as say it."""

from __future__ import annotations

import pytest

from smoe_ds.doctor.finding import FAILED, NOTE, OK, SKIPPED, Finding, words
from smoe_ds.doctor.merge import merge

HOSTS = ["n1", "n1", "n2", "n2"]


@pytest.mark.parametrize(
    ("text", "low", "high", "expected"),
    [
        ("{x:bytes} free", 512, 512, "512 B free"),
        ("{x:bytes}", 1536, 3 * 2**30, "1.5 KiB to 3.0 GiB"),
        ("{x:bytes}", 150 * 2**30, 150 * 2**30, "150 GiB"),
        ("{x:rate}", 1.25e9, 1.25e9, "1.2 GB/s"),
        ("{x:seconds}", 0.00002, 0.02, "20 µs to 20.0 ms"),
        ("{x:seconds}", -61.0, -61.0, "-61.0 s"),
        ("{x:count}", 20000, 20000, "20,000"),
        ("a {brace} and {y:bytes} stay", 1, 1, "a {brace} and {y:bytes} stay"),
    ],
)
def test_figures(text: str, low: float, high: float, expected: str) -> None:
    assert words(text, {"x": (low, high)}) == expected


@pytest.mark.parametrize(
    ("scope", "ranks", "where"),
    [
        ("rank", (0, 1, 2, 3), "all 4 ranks"),
        ("rank", (2, 3), "host n2"),
        ("rank", (1, 2), "ranks 1 (n1), 2 (n2)"),
        ("rank", (3,), "rank 3 (n2)"),
        ("host", (0, 2), "both hosts"),
        ("host", (2,), "host n2"),
        ("run", (0,), ""),
    ],
)
def test_where(scope: str, ranks: tuple[int, ...], where: str) -> None:
    (line,) = merge("x", {rank: [Finding(OK, "same", scope=scope)] for rank in ranks}, HOSTS)
    assert (line.where, line.ranks) == (where, ranks)


def test_many_are_counted_and_one_is_not_named() -> None:
    hosts = [f"n{number}" for number in range(20)]
    (line,) = merge("x", {rank: [Finding(OK, "same", scope="host")] for rank in range(9)}, hosts)
    assert line.where == "hosts n0, n1, n2, n3, n4, n5 and 3 more"
    (line,) = merge("x", {0: [Finding(OK, "same")]}, ["n1"])
    assert line.where == ""


def test_the_worst_comes_first() -> None:
    found = {0: [Finding(SKIPPED, "s"), Finding(OK, "o"), Finding(FAILED, "f"), Finding(NOTE, "n")]}
    assert [line.mark for line in merge("x", found, ["here"])] == [FAILED, NOTE, OK, SKIPPED]
