"""The messages of a gettext catalog in source form, by gettext's own grammar: a line may hold several statements."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from smoe_ds.errors import DataError

_TOKEN = re.compile(
    r'(?P<space>[ \t\r\f\v]+)|(?P<end>\n)|(?P<comment>#[^\n]*)|"(?P<string>[^"\\\n]*(?:\\.[^"\\\n]*)*)"'
    r"|(?P<statement>msgctxt|msgid_plural|msgid|domain|msgstr\s*\[\s*(?P<form>[0-9]{1,3})\s*\]|msgstr)(?![\w$])"
)
_ESCAPE = re.compile(r"((?:\\(?:[0-7]{1,3}|x[0-9A-Fa-f]{2}))+)|\\(.)")
_BYTE = re.compile(r"\\(?:([0-7]{1,3})|x(..))")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_AFTER = {  # what a statement may follow; "" is the beginning of a message
    "msgctxt": ("",),
    "msgid": ("", "msgctxt"),
    "msgid_plural": ("msgid",),
    "msgstr": ("msgid",),
    "msgstr[]": ("msgid_plural", "msgstr[]"),
}


@dataclass
class Message:
    """A message, complete or while its statements come in.

    Attributes:
        line: where it begins, from 1.
        parts: text by statement: ``msgctxt``, ``msgid``, ``msgid_plural``, ``msgstr``.
        forms: text by number of a plural message's forms.
        fuzzy: the translation is a guess.
    """

    line: int = 0
    parts: dict[str, str] = field(default_factory=dict)
    forms: dict[int, str] = field(default_factory=dict)
    fuzzy: bool = False

    @property
    def is_header(self) -> bool:
        """Whether it is the catalog's header, which is used even if it is fuzzy."""
        return self.parts["msgid"] == "" and "msgctxt" not in self.parts

    @property
    def translations(self) -> list[str]:
        """The forms of a plural message in order, or the one translation."""
        return [self.forms[number] for number in sorted(self.forms)] if self.forms else [self.parts["msgstr"]]


def po_messages(text: str, place: str, charset: str) -> Iterator[Message]:
    """Yields all messages but obsolete ones; headers too, and fuzzy and untranslated messages.

    Args:
        text: the catalog.
        place: what stands in front of the line number in an error.
        charset: the encoding of bytes that the text spells as numbers (``\\303\\251``).

    Raises:
        DataError: a line is not a gettext statement, or a message is incomplete.

    Source: "The Format of PO Files" in the gettext manual; where it is silent, as ``msgfmt`` reads it.
    """
    parser = _Parser(place, charset)
    position = line = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise parser.error(line + 1, f"is not a gettext statement: {text[position:].splitlines()[0][:60]!r}")
        position = match.end()
        line += match.lastgroup == "end"
        yield from parser.take(match, line + 1)
    yield from parser.finish()


class _Parser:
    """Puts messages together; ``take`` and ``finish`` yield those that are complete."""

    def __init__(self, place: str, charset: str) -> None:
        self._place, self._charset = place, charset
        self._message = Message()
        self._last = ""  # the statement that the next string belongs to
        self._waits = False  # for its first string
        self._fuzzy = False  # a flag of the message to come

    def error(self, line: int, problem: str) -> DataError:
        """An error at a line."""
        return DataError(f"{self._place}: line {line} {problem}; check the file with msgfmt")

    def take(self, token: re.Match[str], line: int) -> Iterator[Message]:
        """Takes in a token."""
        if token["string"] is not None:
            self._add_string(token["string"], line)
        elif token["statement"] is not None or token["comment"] is not None:
            if self._waits:
                raise self.error(line, f"is not text of the {self._last} above it: {token[0][:60]!r}")
            if token["statement"] is not None:
                yield from self._begin_statement(token, line)
            else:
                yield from self._take_comment(token["comment"], line)

    def finish(self) -> Iterator[Message]:
        """Ends the message at hand, if there is one."""
        message, self._message, self._last = self._message, Message(), ""
        if not message.parts:
            return
        missing = next((name for name in ("msgid", "msgstr") if name not in message.parts), None)
        if missing and not message.forms:
            raise self.error(message.line, f"begins a message without {missing}")
        if message.forms and set(message.forms) != set(range(len(message.forms))):
            numbers = ", ".join(map(str, message.forms))
            raise self.error(message.line, f"begins a message with the forms {numbers}, not 0, 1, ...")
        yield message

    def _begin_statement(self, token: re.Match[str], line: int) -> Iterator[Message]:
        name = token["statement"] if token["form"] is None else "msgstr[]"
        is_new = name in ("msgctxt", "msgid", "domain") and (name, self._last) != ("msgid", "msgctxt")
        if is_new:
            yield from self.finish()
        if name == "domain":
            self._fuzzy = False
        elif self._last not in _AFTER[name] or (name == "msgstr[]" and int(token["form"]) in self._message.forms):
            raise self.error(line, f"has {name} where it cannot be: {token[0]!r}")
        if is_new and name != "domain":
            self._message, self._fuzzy = Message(line, fuzzy=self._fuzzy), False
        self._last, self._waits = name, True
        self._form = int(token["form"] or 0)

    def _add_string(self, text: str, line: int) -> None:
        if not self._last:
            raise self.error(line, f"is not a gettext statement, and no text of one: {text[:60]!r}")
        text = self._unescaped(text, line)
        message = self._message
        if self._last == "msgstr[]":
            message.forms[self._form] = message.forms.get(self._form, "") + text
        elif self._last != "domain":
            message.parts[self._last] = message.parts.get(self._last, "") + text
        self._waits = False

    def _take_comment(self, comment: str, line: int) -> Iterator[Message]:
        """Comments end the message above them; flags are those of the next one, which may be obsolete (``#~``)."""
        is_whole = bool(self._message.forms) or "msgstr" in self._message.parts
        if is_whole or self._last == "domain":
            yield from self.finish()
        obsolete = comment.startswith("#~")
        inner = comment[2:].strip() if obsolete else comment
        if inner.startswith("#,"):
            if self._last not in ("", "domain"):
                raise self.error(line, f"has flags inside a message: {comment[:60]!r}")
            self._fuzzy = "fuzzy" in re.split(r"[,\s]+", inner[2:])
        elif obsolete and inner and not inner.startswith("|"):
            self._fuzzy = False

    def _unescaped(self, text: str, line: int) -> str:
        try:
            return _ESCAPE.sub(self._character, text) if "\\" in text else text
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self._place}: line {line} has escaped bytes that are not {self._charset.upper()}: {text[:60]!r}; "
                "convert the catalog"
            ) from error

    def _character(self, match: re.Match[str]) -> str:
        """A letter's meaning, or the text that a run of octal or hexadecimal bytes encodes."""
        numbers, letter = match.groups()
        if letter is not None:
            return _ESCAPES.get(letter, letter)
        found = _BYTE.findall(numbers)
        return bytes(int(octal, 8) & 255 if octal else int(hexa, 16) for octal, hexa in found).decode(self._charset)
