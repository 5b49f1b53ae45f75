"""LaTeX: text that is shown as it stands, and tables with booktabs' lines."""

from __future__ import annotations

import re
from collections.abc import Sequence

from smoe_ds.text_line import spelled_out

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "+-": r"$\pm$",
    **{char: f"\\{char}" for char in "&%$#_{}"},
}
_PATTERN = re.compile("|".join(map(re.escape, sorted(_SPECIAL, key=len, reverse=True))))


def latex_escaped(text: str) -> str:
    """A text that LaTeX sets as it stands, on one line, hidden characters spelled out."""
    return _PATTERN.sub(lambda found: _SPECIAL[found[0]], spelled_out(text))


def tabular(alignments: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table.

    Args:
        alignments: a letter for each column, ``l`` or ``r``.
        header: names of the columns, escaped as all cells are.
        rows: cells; an empty row is a line across the table.
    """
    lines = [rf"\begin{{tabular}}{{{alignments}}}", r"\toprule", _line(header), r"\midrule"]
    lines += [_line(row) if row else r"\midrule" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def comments(lines: Sequence[str]) -> str:
    """Lines that stand in the file and are not set."""
    return "\n".join(f"% {spelled_out(line)}".rstrip() for line in lines)


def _line(cells: Sequence[str]) -> str:
    return rf"{' & '.join(cells)} \\"
