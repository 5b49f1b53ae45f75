"""Smoke-test bitext without a Debian mirror: dates, amounts and lists composed from CLDR, which `babel` carries.

`python -m data_prep.quickstart.cldr --languages nso msa --out DIR`. These are no natural sentences: a model learns them
in minutes, and its BLEU says that training works, nothing about translation.
"""

from __future__ import annotations

import argparse
import datetime
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from data_prep.quickstart.catalog_packages import catalogs
from data_prep.quickstart.quickstart_text import unique_pairs, write_corpus_text
from smoe_ds.errors import DataError

DRAWS = 6000  # per language, before duplicates
UNITS = (
    "length-kilometer",
    "length-meter",
    "mass-kilogram",
    "volume-liter",
    "duration-hour",
    "duration-minute",
    "duration-day",
    "duration-week",
    "duration-month",
    "duration-year",
    "temperature-celsius",
    "digital-gigabyte",
    "speed-kilometer-per-hour",
    "area-hectare",
)
Phrase = Callable[[random.Random], tuple[str, str]]


def cldr_pairs(language: str, seed: int = 1, draws: int = DRAWS) -> list[tuple[str, str]]:
    """Composed sentence pairs of English and a language.

    Args:
        language: code as in `data_prep.quickstart.catalog_packages`.
        seed: seed of the draw.
        draws: pairs composed, before duplicates and what is too short are taken out.

    Returns:
        (English, translation) pairs, without duplicates.

    Raises:
        DataError: babel is missing, or CLDR does not have the language.
    """
    locale = _locale(language)
    phrases = _phrases(locale)
    draw = random.Random(f"{seed} {language}")
    pairs = []
    for _ in range(draws):
        chosen = [phrases[draw.randrange(len(phrases))](draw) for _ in range(draw.randint(1, 3))]
        pairs.append(
            tuple(_joined([phrase[side] for phrase in chosen], code) for side, code in ((0, "en"), (1, locale)))
        )
    return unique_pairs((english, other) for english, other in pairs)


def _locale(language: str) -> str:
    try:
        from babel import localedata
    except ImportError as error:
        raise DataError("the Python package babel is missing; pip install babel") from error
    for locale in catalogs(language).locales:
        if localedata.exists(locale):
            return locale
    raise DataError(f"CLDR has no language {language!r}; choose others, or give your own text")


def _phrases(locale: str) -> list[Phrase]:
    """Makers of (English, translation) phrases for what CLDR has in this language; dates are always there."""
    from babel import Locale

    def date(draw: random.Random) -> tuple[str, str]:
        from babel.dates import format_date

        day = datetime.date(1900, 1, 1) + datetime.timedelta(days=draw.randrange(60_000))
        style = draw.choice(("full", "long"))
        return format_date(day, style, locale="en"), format_date(day, style, locale=locale)

    makers: list[Phrase] = [date]
    english, other = Locale.parse("en"), Locale.parse(locale)
    for names, translations in ((english.territories, other.territories), (english.languages, other.languages)):
        shared = sorted(code for code in names if code in translations and code.isalpha())
        if len(shared) >= 20:
            makers.append(_name_maker({code: (names[code], translations[code]) for code in shared}))
    if units := [unit for unit in UNITS if _has_unit(unit, locale)]:
        makers.append(_unit_maker(units, locale))
    return makers


def _has_unit(unit: str, locale: str) -> bool:
    """Whether the language has words for a unit; without them babel writes the unit's identifier."""
    from babel.units import format_unit

    return not any(unit in format_unit(number, unit, locale=locale) for number in (1, 2, 5))


def _name_maker(names: dict[str, tuple[str, str]]) -> Phrase:
    codes = sorted(names)
    return lambda draw: names[draw.choice(codes)]


def _unit_maker(units: Sequence[str], locale: str) -> Phrase:
    def amount(draw: random.Random) -> tuple[str, str]:
        from babel.units import format_unit

        unit, number = draw.choice(units), draw.randrange(1, 1000)
        return format_unit(number, unit, locale="en"), format_unit(number, unit, locale=locale)

    return amount


def _joined(phrases: Sequence[str], locale: str) -> str:
    from babel.lists import format_list

    return " ".join(format_list(phrases, locale=locale).split())


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; exit status 2 with one line on stderr for what a user can fix."""
    parser = argparse.ArgumentParser(prog="python -m data_prep.quickstart.cldr", description=__doc__.splitlines()[0])
    parser.add_argument("--languages", nargs="+", required=True, help="nso msa tgl cat ...")
    parser.add_argument("--out", type=Path, required=True, help="folder for text/ and spec.yaml")
    parser.add_argument("--output", default="prepared", help="prepared corpus, relative to --out (default %(default)s)")
    arguments = parser.parse_args(argv)
    try:
        pairs = {language: cldr_pairs(language) for language in arguments.languages}
        origin = {"source": "composed from CLDR: smoke-test data, not natural sentences"}
        spec = write_corpus_text(arguments.out, pairs, output=arguments.output, origin=origin)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for language, found in pairs.items():
        print(f"eng-{language}: {len(found):,} composed pairs")
    print(f"specification: {spec}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
