"""What translation catalogs have in common: markup in their text, and for gettext the language of the message ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from data_prep.readers.sides import SidePair
from data_prep.readers.source import Reading
from data_prep.text.markup import clean_gettext

Markup = Annotated[Literal["strip", "keep"], Field(description="Take the catalog's markup out of the text, or not.")]
MessageLanguage = Annotated[
    str | None, Field(description="Language of the message ids; null: the pivot, or the first language.")
]


def stripped(pairs: Iterable[SidePair], markup: Markup, strip: Callable[[str], str]) -> Iterator[SidePair]:
    """Sentence pairs with the catalog's markup taken out, if the specification says so."""
    if markup == "keep":
        yield from pairs
        return
    for first, second in pairs:
        yield (
            strip(first) if isinstance(first, str) else first,
            strip(second) if isinstance(second, str) else second,
        )


def gettext_pairs(
    messages: Iterable[SidePair], msgid: MessageLanguage, markup: Markup, reading: Reading
) -> Iterator[SidePair]:
    """A gettext catalog's messages in the order of the pair's languages."""
    reverse = (msgid or reading.key_language) != reading.languages[0]
    for first, second in stripped(messages, markup, clean_gettext):
        yield (second, first) if reverse else (first, second)


def check_msgid(msgid: MessageLanguage, languages: tuple[str, str]) -> None:
    """Checks the language of the message ids.

    Raises:
        ValueError: the pair lacks it.
    """
    if msgid not in (None, *languages):
        raise ValueError(f"msgid {msgid!r} is not a language of the pair {'-'.join(languages)}")
