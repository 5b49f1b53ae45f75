"""Bytes of an XML file with the characters that XML forbids taken out, and where they were.

An XML parser stops at the first of them, so that one control character or one byte that is no UTF-8 would cost a whole
file. Here each becomes blanks of the same length: all places in the file stay what they are.
"""

from __future__ import annotations

import codecs
import re
from collections import deque

import numpy as np

_FORBIDDEN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_NONCHARACTER = re.compile(rb"\xef\xbf[\xbe\xbf]")  # in UTF-8
_INVALID = re.compile("[\udc80-\udcff]")  # bytes that are not UTF-8, as Python's "surrogateescape" spells them
_REFERENCE = re.compile(rb"&#(?:x([0-9A-Fa-f]+)|([0-9]+));")
_LONGEST = 32  # bytes of a reference that may be cut by the end of a piece
_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?\bencoding\s*=\s*["']([\w.:-]+)""")
_STANDALONE = re.compile(rb"""(<\?xml[^>]*?)(\bstandalone\s*=\s*["']yes["'])""")
_MARKS = {  # how a file in UTF-16 begins, with a byte order mark and without
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    b"<\0": "utf-16-le",
    b"\0<": "utf-16-be",
}
_UTF8 = ("utf-8", "utf8")


def _as_noncharacter(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\uffff", error.end


codecs.register_error("data_prep.noncharacter", _as_noncharacter)


class XmlText:
    """Makes the pieces of a file readable for a parser, one after the other.

    Attributes:
        encoding: UTF-8 where the parser must be told so, whatever the file declares; None: as it declares.
        forbidden: offsets in what the parser gets, rising, of what was taken out: a forbidden character.
        invalid: the same of bytes that are not UTF-8.
    """

    def __init__(self, start: bytes) -> None:
        """Looks at the first bytes of the file, 1 KiB or so."""
        wide = _MARKS.get(start[:2])
        self._decoder = codecs.getincrementaldecoder(wide)("data_prep.noncharacter") if wide else None
        declared = _DECLARED.match(start.removeprefix(codecs.BOM_UTF8))
        self._is_utf8 = bool(wide) or declared is None or declared[1].decode().lower() in _UTF8
        self.encoding = "utf-8" if wide else None
        self.forbidden: deque[int] = deque()
        self.invalid: deque[int] = deque()
        self._waiting = b""
        self._offset = 0

    def feed(self, data: bytes, *, final: bool = False) -> bytes:
        """The readable form of the next bytes; a few may wait for those that follow."""
        if self._decoder is not None:
            data = self._decoder.decode(data, final).encode("utf-8")
        data = self._waiting + data
        if self._offset == 0:  # a file that says so would be refused for each entity that it does not declare
            data = _STANDALONE.sub(lambda match: match[1] + b" " * len(match[2]), data, count=1)
        end = len(data) if final else self._end(data)
        self._waiting = data[end:]
        readable, forbidden, invalid = self._cleaned(data[:end])
        self.forbidden.extend(self._offset + place for place in forbidden)
        self.invalid.extend(self._offset + place for place in invalid)
        self._offset += end
        return readable

    def _end(self, data: bytes) -> int:
        """Where the bytes end that nothing can change any more."""
        cut = max(len(data) - _LONGEST, 0)
        if (begin := data.rfind(b"&", cut)) >= 0 and b";" not in data[begin:]:
            return begin
        for back in range(1, min(4, len(data) + 1)):  # a character of UTF-8 that goes on
            byte = data[-back]
            if byte >= 0xC0:
                return len(data) - back if self._is_utf8 and back < (2 + (byte >= 0xE0) + (byte >= 0xF0)) else len(data)
            if byte < 0x80:
                break
        return len(data)

    def _cleaned(self, data: bytes) -> tuple[bytes, list[int], list[int]]:
        """The bytes, where forbidden characters were and where invalid bytes were."""
        allowed = _FORBIDDEN.sub(b" ", data)
        if b"&#" in data:
            allowed = _REFERENCE.sub(_allowed_reference, allowed)
        if not self._is_utf8:
            return allowed, _changes(data, allowed), []
        allowed = _NONCHARACTER.sub(b"   ", allowed)
        readable = _INVALID.sub(" ", allowed.decode("utf-8", "surrogateescape")).encode("utf-8")
        return readable, _changes(data, allowed), _changes(allowed, readable)


def _allowed_reference(match: re.Match[bytes]) -> bytes:
    number = -1 if len(match[0]) > _LONGEST else int(match[1], 16) if match[1] else int(match[2])
    return match[0] if _is_allowed(number) else b" " * len(match[0])


def _is_allowed(number: int) -> bool:
    """Whether XML 1.0 allows a character."""
    if number < 0x20:
        return number in (0x9, 0xA, 0xD)
    return number < 0xD800 or 0xDFFF < number < 0xFFFE or 0xFFFF < number < 0x110000


def _changes(before: bytes, after: bytes) -> list[int]:
    """Where two byte strings of one length differ, rising."""
    if before == after:
        return []
    return np.flatnonzero(np.frombuffer(before, np.uint8) != np.frombuffer(after, np.uint8)).tolist()
