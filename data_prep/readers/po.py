"""Gettext catalogs in source form (.po)."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field

from data_prep.readers.block import Block
from data_prep.readers.catalogs import Markup, MessageLanguage, check_msgid, gettext_pairs
from data_prep.readers.compressed import open_bytes
from data_prep.readers.file_name import FileName
from data_prep.readers.gettext_messages import MessagePairs, charset_of
from data_prep.readers.notes import Notes
from data_prep.readers.po_messages import Message, po_messages
from data_prep.readers.sides import SidePair, is_text
from data_prep.readers.source import Reading, Source, in_blocks
from smoe_ds.errors import DataError

MAX_BYTES = 256 << 20  # of a catalog, which is held in memory; the largest in use have 20 MiB
_NAMES_CHARSET = re.compile(rb'^[^#\n]*Content-Type:[^"\n]*?(charset=[\w.:-]+)', re.IGNORECASE | re.MULTILINE)


class PoSource(Source):
    """A gettext catalog in source form. Plural messages give two pairs; fuzzy, obsolete and untranslated ones none."""

    po: FileName = Field(description="The file.")
    msgid: MessageLanguage = None
    markup: Markup = "strip"

    def files(self) -> tuple[str, ...]:
        return (self.po,)

    def blocks(self, paths: Sequence[Path], reading: Reading) -> Iterator[Block]:
        messages = read_po(paths[0], reading.notes, refuse_invalid=reading.refuse_invalid)
        return in_blocks(gettext_pairs(messages, self.msgid, self.markup, reading))

    def check(self, languages: tuple[str, str]) -> None:
        check_msgid(self.msgid, languages)


def read_po(path: Path, notes: Notes, *, refuse_invalid: bool) -> Iterator[SidePair]:
    """Yields (message id, translation) without fuzzy, obsolete and untranslated messages.

    Args:
        path: the file, plain or compressed, in the encoding that its header names.
        notes: what was mended or is invalid, and which plural messages were left out and why; added to.
        refuse_invalid: refuse a file with bytes that are invalid in its encoding, instead of yielding those messages as
            unusable.

    Raises:
        DataError: the file cannot be read or decoded, or a line is not a gettext statement.
    """
    messages = catalog_messages(path, notes, refuse_invalid=refuse_invalid)
    headers = [message for message in messages if message.is_header]
    if len(headers) > 1:
        notes.places.append(f"{path.name}: line {headers[1].line} begins another header; only the first one counts")
    header = headers[0].translations[0] if headers else ""
    message_pairs = MessagePairs(header, path, notes)
    for message in messages:
        if not message.fuzzy and message.parts["msgid"]:
            yield from message_pairs(message.parts["msgid"], message.parts.get("msgid_plural"), message.translations)


def catalog_messages(path: Path, notes: Notes, *, refuse_invalid: bool) -> list[Message]:
    """All messages but obsolete ones, in the file's order, see `read_po`; an invalid byte is half a surrogate pair."""
    with open_bytes(path) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise DataError(f"{path}: has more than {MAX_BYTES >> 20} MiB; divide the catalog")
    if data.startswith(codecs.BOM_UTF8):
        data = data.removeprefix(codecs.BOM_UTF8)
        notes.counts["byte_order_mark"] += 1
    _check_encoding(path, data)
    charset = _charset(path, data)
    text = data.decode(charset, "surrogateescape")
    _note_invalid(path, text, charset, notes, refuse_invalid=refuse_invalid)
    return list(po_messages(text, str(path), charset))


def _charset(path: Path, data: bytes) -> str:
    """The encoding that the header names.

    A header is read in the encoding that it seems to name, because in some a character may end in a backslash.
    """
    named = _NAMES_CHARSET.search(data)
    charset = charset_of(named[1].decode() if named else "", path)
    messages = po_messages(data.decode(charset, "surrogateescape"), str(path), charset)
    header = next((message for message in messages if message.is_header), None)  # often the first, and then no more
    return charset if header is None else charset_of(header.translations[0], path)


def _check_encoding(path: Path, data: bytes) -> None:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data[:100]:
        raise DataError(f"{path}: is in UTF-16 or UTF-32, or no text at all; convert the catalog to UTF-8")
    if b"\r" in data and b"\n" not in data:
        raise DataError(f"{path}: has no LF but lone CR characters: old-Mac line ends; convert them to LF")


def _note_invalid(path: Path, text: str, charset: str, notes: Notes, *, refuse_invalid: bool) -> None:
    """Tells of the first line that is invalid in the catalog's encoding; too many of them are another encoding."""
    if is_text(text):
        return
    lines = text.split("\n")
    invalid = [number for number, line in enumerate(lines, 1) if not is_text(line)]
    num_non_ascii = sum(not line.isascii() for line in lines)
    what = f"{path.name}: first line that is not {charset.upper()}: line {invalid[0]}"
    if refuse_invalid or (len(invalid) > 1 and 2 * len(invalid) > num_non_ascii):
        raise DataError(
            f"{path}: not {charset.upper()}: {len(invalid)} of {num_non_ascii} lines with non-ASCII bytes are invalid, "
            f"the first is line {invalid[0]}; convert the catalog, or name its encoding in its header (charset=...)"
        )
    notes.places.append(what)
