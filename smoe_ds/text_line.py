"""Text of users on one line of a log, a table, a message or a program, with nothing in it that breaks or disguises it.

What ends a line depends on the reader: a shell knows only the line feed, ``str.splitlines`` also U+0085, U+2028 and
more; a terminal obeys escape sequences, and marks for writing from right to left reorder what is shown.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterable

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories of what is not seen but acts: control and format characters, half pairs, line separators."""
_JOINERS = "\u200c\u200d"
"""Format characters that spelling needs, as in Persian and Hindi; they join or part the letters beside them."""


def is_hidden(character: str) -> bool:
    """Whether a character is not seen itself, but acts on the text around it."""
    return unicodedata.category(character) in _HIDDEN and character not in _JOINERS


def hidden_in(text: str) -> str | None:
    """The first hidden character of a text; None if it has none."""
    return None if text.isprintable() else next(filter(is_hidden, text), None)


def spelled_out(text: str, keep: str = "") -> str:
    """A text with its hidden characters written as ``\\n``, ``\\x1b`` or ``\\u2028``.

    Args:
        text: the text.
        keep: hidden characters that stay as they are.
    """
    if hidden_in(text) is None:
        return text
    return "".join(c.encode("unicode_escape").decode() if is_hidden(c) and c not in keep else c for c in text)


def unprintable_spelled_out(text: str) -> str:
    """A text to be looked at character by character: as ``spelled_out``, but joiners are written out too."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def command_line(words: Iterable[str]) -> str:
    """Words as one line for a shell (bash, zsh, ksh), hidden characters spelled out in ``$'...'``."""
    return " ".join(shlex.quote(word) if hidden_in(word) is None else _dollar_quoted(word) for word in words)


def _dollar_quoted(word: str) -> str:
    def spelled(character: str) -> str:
        if not is_hidden(character):
            return f"\\{character}" if character in "\\'" else character
        data = character.encode("utf-8", "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass")
        return "".join(f"\\{byte:03o}" for byte in data)  # octal: \x would take digits that follow, too

    return f"$'{''.join(map(spelled, word))}'"


def first_line(text: str) -> str:
    """What stands before the first line end of a message; "" of an empty one."""
    return re.split(r"[\r\n]", text.strip(), maxsplit=1)[0]
