"""Sentence pairs of a language from unpacked translation catalogs: gettext ``.mo`` and MediaWiki ``i18n/*.json``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from data_prep.readers.mediawiki import read_mediawiki
from data_prep.readers.mo import read_mo
from data_prep.readers.notes import Notes
from data_prep.text.markup import clean_gettext, clean_mediawiki, paragraphs, strip_bar_context


def catalog_pairs(folder: Path, locales: Sequence[str], notes: Notes) -> Iterator[tuple[str, str]]:
    """Yields cleaned (English, translation) pairs of every catalog below a folder.

    Args:
        folder: with the paths that the catalogs have inside their packages.
        locales: the language's locale names, in order of preference.
        notes: which plural messages were left out and why, added to.

    Yields:
        Paragraph by paragraph where both sides have equally many, else message by message. In the order of the paths,
        so that the same packages give the same text everywhere.
    """
    for locale in locales:
        for catalog in sorted(folder.glob(f"**/{locale}/LC_MESSAGES/*.mo")):
            yield from gettext_pairs(catalog, notes)
        for messages in sorted(folder.glob(f"**/i18n/**/{locale}.json")):
            if (english := messages.with_name("en.json")).exists():
                yield from mediawiki_pairs(english, messages)


def gettext_pairs(catalog: Path, notes: Notes) -> Iterator[tuple[str, str]]:
    """Cleaned (English, translation) pairs of a compiled gettext catalog with English message ids."""
    for msgid, translation in read_mo(catalog, notes):
        if isinstance(msgid, str) and isinstance(translation, str):
            english = strip_bar_context(msgid, translation)
            for first, second in _aligned(english, translation, list_items=False):
                yield clean_gettext(first), clean_gettext(second)


def mediawiki_pairs(english: Path, other: Path) -> Iterator[tuple[str, str]]:
    """Cleaned (English, translation) pairs of two MediaWiki message files."""
    for message, translation in read_mediawiki(english, other):
        if isinstance(message, str) and isinstance(translation, str):
            for first, second in _aligned(message, translation, list_items=True):
                yield clean_mediawiki(first), clean_mediawiki(second)


def _aligned(first: str, second: str, *, list_items: bool) -> list[tuple[str, str]]:
    pieces = paragraphs(first, list_items=list_items), paragraphs(second, list_items=list_items)
    if len(pieces[0]) != len(pieces[1]):
        return [(first, second)]
    return list(zip(*pieces, strict=True))
