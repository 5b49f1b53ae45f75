"""Lines of a command on stderr, so that stdout holds its result alone."""

from __future__ import annotations

import sys


def note(command: str, text: str) -> None:
    """Says what a command is doing or has done."""
    print(f"smoe-ds {command}: {text}", file=sys.stderr)


def warn(text: str) -> None:
    """Says what the user should know of a result."""
    print(f"warning: {text}", file=sys.stderr)
