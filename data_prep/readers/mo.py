"""Compiled gettext catalogs (.mo)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field

from data_prep.readers.block import Block
from data_prep.readers.catalogs import Markup, MessageLanguage, check_msgid, gettext_pairs
from data_prep.readers.file_name import FileName
from data_prep.readers.gettext_messages import charset_of, message_pairs
from data_prep.readers.sides import SidePair, Unusable
from data_prep.readers.source import Reading, Source, in_blocks
from smoe_ds.errors import DataError

_MAGIC = 0x950412DE


class MoSource(Source):
    """A compiled gettext catalog. Each plural form gives a pair; contexts and untranslated messages are left out."""

    mo: FileName = Field(description="The file.")
    msgid: MessageLanguage = None
    markup: Markup = "strip"

    def files(self) -> tuple[str, ...]:
        return (self.mo,)

    def blocks(self, paths: Sequence[Path], reading: Reading) -> Iterator[Block]:
        return in_blocks(gettext_pairs(read_mo(paths[0]), self.msgid, self.markup, reading))

    def check(self, languages: tuple[str, str]) -> None:
        check_msgid(self.msgid, languages)


def read_mo(path: Path) -> Iterator[SidePair]:
    """Yields (message id, translation), without contexts; a plural message gives a pair for either form.

    Raises:
        DataError: the file is missing, is no compiled catalog, or is truncated.

    Source: "The Format of GNU MO Files" in the gettext manual.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    entries = _entries(path, data)
    charset = charset_of(next((str_ for id_, str_ in entries if not id_), b"").decode("utf-8", "replace"), path)
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
    order = next((order for order in "<>" if data[:4] == struct.pack(f"{order}I", _MAGIC)), None)
    if order is None:
        raise DataError(f"{path}: is not a compiled gettext catalog (.mo): starts with {data[:4]!r}")
    try:
        _, count, ids, translations = struct.unpack_from(f"{order}4I", data, 4)
        return [
            (_string(data, order, ids + 8 * number), _string(data, order, translations + 8 * number))
            for number in range(count)
        ]
    except struct.error as error:
        raise DataError(f"{path}: truncated: its tables lie beyond its {len(data)} bytes; copy it again") from error


def _string(data: bytes, order: str, offset: int) -> bytes:
    length, start = struct.unpack_from(f"{order}2I", data, offset)
    if start + length > len(data):
        raise struct.error("string lies beyond the end of the file")
    return data[start : start + length]
