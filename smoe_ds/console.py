"""Standard output that takes any text, whatever the encoding of the terminal or file behind it."""

from __future__ import annotations

import io
import sys


def take_any_text() -> None:
    """Lets characters that the encodings of stdout and stderr lack be printed as ``\\u0161`` instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
