"""What a person reads of a doctor's findings: aligned, folded and coloured only on a terminal."""

from __future__ import annotations

import io
import json

import pytest

from smoe_ds.doctor.examination import Examination, may_go
from smoe_ds.doctor.finding import FAILED, NOTE, OK
from smoe_ds.doctor.merge import Line
from smoe_ds.report.findings import Report, print_examination, start_text, verdict

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
    assert last == "no go: 1 to fix (memory), 1 note"


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
    assert verdict(LINES[1:]) == "go: nothing stands in the way, 1 note"


@pytest.mark.parametrize(
    ("ranks", "hosts", "text"),
    [(1, 1, "1 rank on 1 host"), (2, 1, "2 ranks on 1 host, started by x"), (4, 2, "4 ranks on 2 hosts, started by x")],
)
def test_start(ranks: int, hosts: int, text: str) -> None:
    assert start_text(ranks, hosts, "x") == text


def test_an_examination_as_a_whole() -> None:
    found = Examination(tuple(LINES), go=False)
    stream = _Stream("utf-8", False)
    print_examination(found, "title", stream)
    assert stream.lines() == printed()
    content = json.loads(json.dumps(found.as_json()))
    assert content["go"] is False
    lines = [Line(**{**entry, "ranks": tuple(entry["ranks"])}) for entry in content["findings"]]
    assert lines == LINES
