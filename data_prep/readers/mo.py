"""Compiled gettext catalogs (.mo)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field

from data_prep.readers.block import Block
from data_prep.readers.catalogs import Markup, MessageLanguage, check_msgid, gettext_pairs
from data_prep.readers.file_name import FileName
from data_prep.readers.gettext_messages import MessagePairs, charset_of
from data_prep.readers.notes import Notes
from data_prep.readers.sides import SidePair, Unusable
from data_prep.readers.source import Reading, Source, in_blocks
from smoe_ds.errors import DataError

_MAGIC = 0x950412DE
_LAST = 0xFFFFFFFF  # in place of a segment's number: the string ends here


class MoSource(Source):
    """A compiled gettext catalog. Plural messages give two pairs; contexts and untranslated messages are left out."""

    mo: FileName = Field(description="The file.")
    msgid: MessageLanguage = None
    markup: Markup = "strip"

    def files(self) -> tuple[str, ...]:
        return (self.mo,)

    def blocks(self, paths: Sequence[Path], reading: Reading) -> Iterator[Block]:
        return in_blocks(gettext_pairs(read_mo(paths[0], reading.notes), self.msgid, self.markup, reading))

    def check(self, languages: tuple[str, str]) -> None:
        check_msgid(self.msgid, languages)


def read_mo(path: Path, notes: Notes) -> Iterator[SidePair]:
    """Yields (message id, translation), without contexts; a plural message gives a pair for either number.

    Args:
        path: the file.
        notes: which plural messages were left out and why, added to.

    Raises:
        DataError: the file is missing, is no compiled catalog, or is truncated.

    Source: "The Format of GNU MO Files" in the gettext manual.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    entries = _entries(path, data)
    raw_header = next((str_ for id_, str_ in entries if not id_), b"")
    charset = charset_of(raw_header.decode("utf-8", "replace"), path)
    message_pairs = MessagePairs(raw_header.decode(charset, "replace"), path, notes)
    for raw_id, raw_str in entries:
        if not raw_id:
            continue
        try:
            msgid, translation = raw_id.decode(charset), raw_str.decode(charset)
        except UnicodeDecodeError:
            yield Unusable.INVALID_UTF8, Unusable.INVALID_UTF8
            continue
        singular, nul, plural = msgid.rpartition("\x04")[2].partition("\x00")
        yield from message_pairs(singular, plural if nul else None, translation.split("\x00"))


def _entries(path: Path, data: bytes) -> list[tuple[bytes, bytes]]:
    """All (message id, translation), with contexts and NUL bytes between plural forms."""
    order = next((order for order in "<>" if data[:4] == struct.pack(f"{order}I", _MAGIC)), None)
    if order is None:
        raise DataError(f"{path}: is not a compiled gettext catalog (.mo): starts with {data[:4]!r}")
    try:
        revision, count, ids, translations = struct.unpack_from(f"{order}4I", data, 4)
        if revision >> 16 > 1:
            raise DataError(f"{path}: is of revision {revision >> 16} of the format, known are 0 and 1; use its .po")
        entries = [
            (_string(data, order, ids + 8 * number), _string(data, order, translations + 8 * number))
            for number in range(count)
        ]
        return entries + (_platform_entries(data, order) if revision & 0xFFFF else [])
    except struct.error as error:
        raise DataError(f"{path}: truncated: its tables lie beyond its {len(data)} bytes; copy it again") from error


def _string(data: bytes, order: str, offset: int) -> bytes:
    length, start = struct.unpack_from(f"{order}2I", data, offset)
    return _cut(data, start, length)


def _cut(data: bytes, start: int, length: int) -> bytes:
    if start + length > len(data):
        raise struct.error("string lies beyond the end of the file")
    return data[start : start + length]


def _platform_entries(data: bytes, order: str) -> list[tuple[bytes, bytes]]:
    """Messages with format specifiers that each platform spells in its own way; as in a .po file: ``%<PRIu64>``."""
    num_segments, segments, count, ids, translations = struct.unpack_from(f"{order}5I", data, 28)
    names = [_string(data, order, segments + 8 * number).rstrip(b"\0") for number in range(num_segments)]
    entries = []
    for number in range(count):
        places = (struct.unpack_from(f"{order}I", data, table + 4 * number)[0] for table in (ids, translations))
        first, second = (_platform_string(data, order, place, names) for place in places)
        entries.append((first, second))
    return entries


def _platform_string(data: bytes, order: str, place: int, names: list[bytes]) -> bytes:
    """Its pieces, between which the platform's spellings go; the last piece ends with a NUL byte."""
    (start,) = struct.unpack_from(f"{order}I", data, place)
    text = b""
    while True:
        place += 8
        length, segment = struct.unpack_from(f"{order}2I", data, place - 4)
        text += _cut(data, start, length)
        start += length
        if segment == _LAST:
            return text[:-1]
        if segment >= len(names):
            raise struct.error("no such segment")
        name = names[segment]
        text += name if name == b"I" else b"<" + name + b">"  # a .po file has %Id, but %<PRIu64>
