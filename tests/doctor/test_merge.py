"""What a person reads: findings of ranks merged, aligned, folded and coloured only on a terminal."""

from __future__ import annotations

import io

import pytest
from smoe_ds.doctor.report import Report, may_go, verdict

from smoe_ds.doctor.finding import FAILED, NOTE, OK, SKIPPED, Finding, words
from smoe_ds.doctor.merge import Line, merge

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


LINES = [
    Line("memory", FAILED, "host n2", "needs 40 GiB of 32 GiB " + "word " * 20, "lower " + "it " * 40, (2, 3)),
    Line("memory", OK, "host n1", "fits", "", (0, 1)),
    Line("clocks", NOTE, "", "off", "synchronise", (0,)),
]


class _Stream(io.TextIOWrapper):
    """A stream of some encoding, on a terminal or not."""

    def __init__(self, encoding: str, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def lines(self) -> list[str]:
        self.flush()
        self.buffer.seek(0)
        return self.buffer.read().decode(self.encoding).splitlines()


def printed(encoding: str = "utf-8", *, terminal: bool = False) -> list[str]:
    stream = _Stream(encoding, terminal)
    report = Report(stream)
    report.title("title")
    for line in LINES:
        report.line(line)
    report.verdict(LINES)
    return stream.lines()


def test_in_a_file() -> None:
    title, cross, remedy, tick, note, advice, last = printed()
    assert title == "title" and "\x1b" not in "".join([cross, remedy, tick])
    assert cross.startswith(" ✗ memory       host n2: needs 40 GiB")
    assert remedy.startswith("                → lower it")
    assert tick == " ✓              host n1: fits"
    assert (note, advice) == (" ! clocks       off", "                → synchronise")
    assert last == "no go: 1 to mend (memory), 1 to know of"


def test_without_unicode() -> None:
    _, cross, remedy, tick, *_ = printed("ascii")
    assert cross.startswith(" NO memory       host n2") and remedy.startswith("                 -> lower")
    assert tick == " ok              host n1: fits"


def test_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = printed(terminal=True)
    plain = [
        line.replace("\x1b[31m", "").replace("\x1b[32m", "").replace("\x1b[33m", "").replace("\x1b[0m", "")
        for line in lines
    ]
    assert max(map(len, plain)) <= 80
    assert lines[1].startswith(" \x1b[31m✗\x1b[0m memory") and plain[2].startswith("                word word")


def test_verdict() -> None:
    assert not may_go(LINES) and may_go(LINES[1:])
    assert verdict(LINES[1:2]) == "go: nothing stands in the way"
    assert verdict(LINES[1:]) == "go: nothing stands in the way, 1 to know of"
