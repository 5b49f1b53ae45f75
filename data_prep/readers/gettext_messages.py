"""What a gettext catalog's messages give as sentence pairs, whether it is compiled (.mo) or not (.po)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_prep.readers.sides import SidePair
from smoe_ds.errors import DataError

_CHARSET = re.compile(r"charset=([\w.:-]+)", re.IGNORECASE)


def charset_of(header: str, path: Path) -> str:
    """The encoding that a catalog's header names; UTF-8 where it names none.

    Raises:
        DataError: Python does not know the encoding.
    """
    match = _CHARSET.search(header)
    if match is None or match[1] == "CHARSET":  # the template's placeholder
        return "utf-8"
    try:
        "".encode(match[1])
    except LookupError as error:
        raise DataError(
            f"{path}: header names an unknown encoding {match[1]!r}; convert the catalog to UTF-8"
        ) from error
    return match[1]


def message_pairs(msgid: str, msgid_plural: str | None, translations: Sequence[str]) -> Iterator[SidePair]:
    """Sentence pairs of one message.

    The singular goes with the first form and the plural with the last, which is right for one form (both go with it),
    for two, and for the languages with more, where the last form is the one for large numbers.
    """
    if msgid and translations and translations[0]:
        if msgid_plural is None:
            yield msgid, translations[0]
            return
        if len(translations) > 1:
            yield msgid, translations[0]
        if translations[-1]:
            yield msgid_plural, translations[-1]
