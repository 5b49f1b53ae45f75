"""Lines of a command on stderr, so that stdout holds its result alone."""

from __future__ import annotations

import sys

from smoe_ds.text_line import spelled_out


def note(command: str, text: str) -> None:
    """Says what a command is doing or has done."""
    print(f"smoe-ds {command}: {spelled_out(text)}", file=sys.stderr)


def warn(text: str) -> None:
    """Says what the user should know of a result."""
    print(f"warning: {spelled_out(text)}", file=sys.stderr)
