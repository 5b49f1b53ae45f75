"""The findings of a doctor as a person reads them: aligned, folded to a terminal's width, coloured only there."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from typing import TextIO

from smoe_ds.doctor.examination import Examination
from smoe_ds.doctor.finding import FAILED, NOTE, OK, SKIPPED
from smoe_ds.doctor.merge import Line
from smoe_ds.text_line import spelled_out

_SIGNS = {OK: "✓", NOTE: "!", FAILED: "✗", SKIPPED: "-"}
_PLAIN_SIGNS = {OK: "ok", NOTE: "!", FAILED: "NO", SKIPPED: "-"}
_COLOURS = {OK: "32", NOTE: "33", FAILED: "31", SKIPPED: "2"}
_NAME = 12  # width of the column of names
_NARROW = 60  # columns; a terminal with fewer is not folded to


class Report:
    """Prints lines as they come.

    Args:
        stream: where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        terminal = stream.isatty()
        self._colours = terminal
        self._width = max(shutil.get_terminal_size().columns, _NARROW) if terminal else None
        self._signs = _SIGNS if _can_print(stream, "".join(_SIGNS.values()) + "→") else _PLAIN_SIGNS
        self._sign_width = max(map(len, self._signs.values()))
        self._last = ""

    def title(self, text: str) -> None:
        """The first line."""
        self._print(spelled_out(text))

    def line(self, line: Line) -> None:
        """A finding, and its remedy on a line of its own; a check's name stands before its first finding."""
        sign = f"{self._signs[line.mark]:{self._sign_width}}"
        name = "" if line.check == self._last else line.check
        self._last = line.check
        lead, blank = f" {sign} {name:{_NAME}} ", " " * (self._sign_width + _NAME + 3)
        text = f"{line.where}: {line.text}" if line.where else line.text
        first, *rest = self._folded(spelled_out(text), len(blank))
        if self._colours:
            lead = f" \x1b[{_COLOURS[line.mark]}m{sign}\x1b[0m {name:{_NAME}} "
        self._print(lead + first, *(blank + part for part in rest))
        if line.remedy:
            arrow = "→" if self._signs is _SIGNS else "->"
            first, *rest = self._folded(f"{arrow} {spelled_out(line.remedy)}", len(blank))
            self._print(blank + first, *(f"{blank}  {part}" for part in rest))

    def verdict(self, lines: Sequence[Line]) -> None:
        """The last line."""
        self._print(verdict(lines))

    def _folded(self, text: str, indent: int) -> list[str]:
        if self._width is None:
            return [text]
        width = self._width - indent - 2
        return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]

    def _print(self, *lines: str) -> None:
        print(*lines, sep="\n", file=self._stream, flush=True)


def print_examination(found: Examination, title: str, stream: TextIO) -> None:
    """Prints findings that have all come."""
    report = Report(stream)
    report.title(title)
    for line in found.lines:
        report.line(line)
    report.verdict(found.lines)


def start_text(ranks: int, hosts: int, launcher: str) -> str:
    """How many ranks were started, where, and by what."""
    number = f"{ranks} rank{'s' if ranks > 1 else ''} on {hosts} host{'s' if hosts > 1 else ''}"
    return f"{number}, started by {launcher}" if ranks > 1 else number


def verdict(lines: Sequence[Line]) -> str:
    """Whether to go, in a sentence."""
    crosses = [line for line in lines if line.mark == FAILED]
    notes = sum(line.mark == NOTE for line in lines)
    also = f", {notes} note{'s' if notes > 1 else ''}" if notes else ""
    if not crosses:
        return f"go: nothing stands in the way{also}"
    names = ", ".join(dict.fromkeys(line.check for line in crosses))
    return f"no go: {len(crosses)} to fix ({names}){also}"


def _can_print(stream: TextIO, text: str) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True
