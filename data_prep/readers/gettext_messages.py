"""What a gettext catalog's messages give as sentence pairs, whether it is compiled (.mo) or not (.po)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_prep.readers.notes import Notes
from data_prep.readers.plural_forms import PluralForms, plural_forms
from data_prep.readers.sides import SidePair, side_of
from smoe_ds.errors import DataError

_CHARSET = re.compile(r"charset=([\w.:-]+)", re.IGNORECASE)
_GERMANIC = PluralForms(2, 0, 1)  # what gettext itself takes where a header says nothing: n != 1
_INSTEAD = "in plural messages of two forms the second is taken for the plural; those of more are left out"


def charset_of(header: str, path: Path) -> str:
    """The encoding that a catalog's header names; UTF-8 where it names none, or ASCII, which UTF-8 includes.

    Raises:
        DataError: Python does not know the encoding.
    """
    match = _CHARSET.search(header)
    if match is None or match[1] == "CHARSET":  # the template's placeholder
        return "utf-8"
    try:
        "".encode(match[1])
        b"-\xff".decode(match[1], "replace")  # some of Python's encodings are not of text, or take no replacement
    except (LookupError, UnicodeError) as error:
        raise DataError(
            f"{path}: header names an unknown encoding {match[1]!r}; convert the catalog to UTF-8"
        ) from error
    return "utf-8" if match[1].lower() in ("ascii", "us-ascii", "ansi_x3.4-1968") else match[1]


class MessagePairs:
    """Turns the messages of one catalog into sentence pairs.

    The singular goes with the form for n = 1, the plural with the general plural, see `PluralForms`. Where both are one
    form, as in Japanese, it goes with the plural alone. A message whose forms cannot be told apart is left out and
    counted; why is said once for each catalog.
    """

    def __init__(self, header: str, path: Path, notes: Notes) -> None:
        """Reads the header.

        Args:
            header: translation of the empty message id, "" without one.
            path: the catalog, for the notes.
            notes: added to.
        """
        self._name, self._notes = path.name, notes
        self._forms: PluralForms | None = None
        self._said: set[str] = set()
        try:
            self._forms = plural_forms(header)
            self._doubt = "the header has no Plural-Forms"
        except ValueError as error:
            self._doubt = f"Plural-Forms cannot be read ({error})"

    def __call__(self, msgid: str, msgid_plural: str | None, translations: Sequence[str]) -> Iterator[SidePair]:
        """Yields the pairs of a message: none where it is untranslated."""
        if not msgid or not any(translations):
            return
        if msgid_plural is None:
            yield from _pair(msgid, translations[0])
            return
        forms = self._forms_of(translations)
        if forms is None:
            self._notes.counts["plural_forms"] += 1
            return
        if forms.one != forms.many:
            yield from _pair(msgid, translations[forms.one])
        yield from _pair(msgid_plural, translations[forms.many])

    def _forms_of(self, translations: Sequence[str]) -> PluralForms | None:
        """Which form is which in a message; None if that is unknown."""
        number = len(translations)
        if self._forms is not None:
            if number == self._forms.number:
                return self._forms
            self._say(f"the header says nplurals={self._forms.number}, but a message has {number}; it is left out")
            return None
        if number == 1:
            return PluralForms(1, 0, 0)
        self._say(f"{self._doubt}; {_INSTEAD}")
        return _GERMANIC if number == 2 else None

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._notes.places.append(f"{self._name}: {text}")


def _pair(first: str, second: str) -> Iterator[SidePair]:
    if first and second:
        yield side_of(first), side_of(second)
