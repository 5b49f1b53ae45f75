"""Gettext catalogs in source form (.po)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from data_prep.readers.block import Block
from data_prep.readers.catalogs import Markup, MessageLanguage, check_msgid, gettext_pairs
from data_prep.readers.file_name import FileName
from data_prep.readers.gettext_messages import charset_of, message_pairs
from data_prep.readers.lines import LineReader
from data_prep.readers.notes import Notes
from data_prep.readers.sides import SidePair, Unusable
from data_prep.readers.source import Reading, Source, in_blocks
from smoe_ds.errors import DataError

_STATEMENT = re.compile(r'(msgctxt|msgid_plural|msgid|msgstr(?:\[(\d+)\])?)\s+"(.*)"$')
_CONTINUED = re.compile(r'"(.*)"$')
_ESCAPE = re.compile(r"((?:\\(?:[0-7]{1,3}|x[0-9A-Fa-f]{2}))+)|\\(.)")
_BYTE = re.compile(r"\\(?:([0-7]{1,3})|x(..))")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


class PoSource(Source):
    """A gettext catalog in source form. Fuzzy, obsolete and untranslated messages are left out."""

    po: FileName = Field(description="The file.")
    msgid: MessageLanguage = None
    markup: Markup = "strip"

    def files(self) -> tuple[str, ...]:
        return (self.po,)

    def blocks(self, paths: Sequence[Path], reading: Reading) -> Iterator[Block]:
        return in_blocks(gettext_pairs(read_po(paths[0]), self.msgid, self.markup, reading))

    def check(self, languages: tuple[str, str]) -> None:
        check_msgid(self.msgid, languages)


@dataclass
class _Message:
    """A message while its lines come in; ``parts`` by keyword: msgid, msgid_plural, msgstr, msgstr[1] ..."""

    parts: dict[str, str] = field(default_factory=dict)
    fuzzy: bool = False

    def pairs(self) -> Iterator[SidePair]:
        translations = [text for name, text in self.parts.items() if name.startswith("msgstr")]
        if not self.fuzzy and self.parts.get("msgid"):
            yield from message_pairs(self.parts["msgid"], self.parts.get("msgid_plural"), translations)


def read_po(path: Path) -> Iterator[SidePair]:
    """Yields (message id, translation) without fuzzy, obsolete and untranslated messages.

    Raises:
        DataError: the file cannot be read, is not in UTF-8, or a line is not a gettext statement.
    """
    reader = LineReader(path, Notes(), refuse_invalid=True)
    message, last = _Message(), ""
    for line in reader:
        text = "" if isinstance(line, Unusable) else line.strip()
        starts_new = text.startswith(("#", "msgctxt", "msgid ", 'msgid"')) and any("msgstr" in p for p in message.parts)
        if starts_new:
            yield from _finished(message, path)
            message, last = _Message(), ""
        if text.startswith("#,"):
            message.fuzzy = message.fuzzy or "fuzzy" in text
        elif text and not text.startswith("#"):
            last = _add_line(message, last, text, f"{path}: line {reader.num_lines}")
    yield from _finished(message, path)


def _add_line(message: _Message, last: str, text: str, place: str) -> str:
    """Adds a statement or its continuation to the message; returns the keyword it belongs to."""
    try:
        if match := _STATEMENT.match(text):
            message.parts[match[1]] = _unescape(match[3])
            return match[1]
        if (match := _CONTINUED.match(text)) and last:
            message.parts[last] += _unescape(match[1])
            return last
    except UnicodeDecodeError as error:
        raise DataError(f"{place} has escaped bytes that are not UTF-8: {text[:60]!r}; convert the catalog") from error
    raise DataError(f"{place} is not a gettext statement: {text[:60]!r}; check the file with msgfmt")


def _finished(message: _Message, path: Path) -> Iterator[SidePair]:
    if message.parts.get("msgid") == "" and "msgctxt" not in message.parts:
        charset = charset_of(message.parts.get("msgstr", ""), path)
        if charset.lower().replace("-", "") not in ("utf8", "ascii", "usascii"):
            raise DataError(f"{path}: header says charset={charset}; convert the catalog to UTF-8, e.g. with msgconv")
        return
    yield from message.pairs()


def _unescape(text: str) -> str:
    return _ESCAPE.sub(_character, text) if "\\" in text else text


def _character(match: re.Match[str]) -> str:
    """A letter's meaning, or the text that a run of octal or hexadecimal bytes encodes."""
    numbers, letter = match.groups()
    if letter is not None:
        return _ESCAPES.get(letter, letter)
    return bytes(int(octal, 8) & 255 if octal else int(hexa, 16) for octal, hexa in _BYTE.findall(numbers)).decode()
