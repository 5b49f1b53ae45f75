"""Characters that a web page or Moses' tokenizer has escaped: ``&amp;``, ``&#39;``, ``&lt;b&gt;``, torn ones too.

Only what ends with a semicolon counts: without one, ``?a=1&copy=2`` would lose its parameter.
"""

from __future__ import annotations

import html
import re
from html.entities import html5

_REFERENCE = re.compile(
    rb"&(?P<before> ?)(?:# ?(?:(?P<decimal>[0-9]{1,7})|[xX](?P<hexa>[0-9A-Fa-f]{1,6}))|"
    rb"(?P<name>[A-Za-z][A-Za-z0-9]{1,31}))(?P<after> ?);"
)
_NAMED = {name[:-1]: text for name, text in html5.items() if name.endswith(";")}
_NAMED |= {"bar": "|", "bra": "[", "ket": "]"}  # Moses', before it wrote numbers
_FREQUENT = {"amp", "apos", "gt", "lt", "nbsp", "quot"}  # these also with spaces inside or in other case


def has_entity(line: bytes) -> bool:
    """Whether an escaped character is in a text in UTF-8."""
    return any(_character(match) is not None for match in _REFERENCE.finditer(line))


def named_character(name: str) -> str | None:
    """What HTML's entity of a name stands for, as ``nbsp`` for U+00A0; None for an unknown one."""
    return _NAMED.get(name) or (_NAMED[name.lower()] if name.lower() in _FREQUENT else None)


def unescape(line: bytes) -> bytes:
    """The text with the characters themselves, those of ``&amp;quot;`` too; line ends become blanks.

    What stands for no character (``&#0;``, ``&nosuch;``) stays.
    """
    while (unescaped := unescape_once(line)) != line:
        line = unescaped
    return line


def unescape_once(line: bytes) -> bytes:
    """The text with each escaped character replaced once, so that ``&amp;lt;`` becomes ``&lt;``."""
    return _REFERENCE.sub(_replaced, line)


def _replaced(match: re.Match[bytes]) -> bytes:
    text = _character(match)
    return match[0] if text is None else text.replace("\n", " ").encode("utf-8")


def _character(match: re.Match[bytes]) -> str | None:
    """What an escaped character stands for; None for nothing."""
    if match["name"] is None:
        number = int(match["decimal"]) if match["decimal"] else int(match["hexa"], 16)
        text = html.unescape(f"&#{number};")  # 128 to 159 mean those of Windows
        return None if text in ("", "\ufffd") else text
    name = match["name"].decode()
    is_torn = match["before"] or match["after"]
    return None if is_torn and name.lower() not in _FREQUENT else named_character(name)
