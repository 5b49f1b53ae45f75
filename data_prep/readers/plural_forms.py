"""Which forms of a plural message are the singular and the plural of English, by the catalog's ``Plural-Forms``."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from data_prep.readers.plural_expression import plural_expression

_SAYS_SOMETHING = re.compile(r"nplurals|plural-forms:[ \t]*\S", re.IGNORECASE)
_FIELD = re.compile(r"nplurals\s*=\s*(\w*)\s*;?\s*plural\s*=\s*([^;\n]*)")
_MAX_FORMS = 20  # Arabic and Welsh have six
_CHECKED = 1001  # numbers whose form is looked at


@dataclass(frozen=True)
class PluralForms:
    """What a catalog's header says.

    Attributes:
        number: forms that each plural message has.
        one: index of the form for n = 1.
        many: index of the form that the English plural goes with, see `general_plural`.
    """

    number: int
    one: int
    many: int


def plural_forms(header: str) -> PluralForms | None:
    """Reads the plural forms of a catalog.

    Args:
        header: the catalog's header, the translation of the empty message id.

    Returns:
        None where the header says nothing, or still what the template says.

    Raises:
        ValueError: what it says cannot be read or contradicts itself; the message says why.
    """
    match = _FIELD.search(header)
    if match is None:
        if _SAYS_SOMETHING.search(header):
            raise ValueError("it is not of the form nplurals=NUMBER; plural=EXPRESSION;")
        return None
    return None if match[1] == "INTEGER" else _forms(match[1], match[2].strip())


@lru_cache(maxsize=256)  # a language's catalogs mostly say the same
def _forms(number_text: str, expression: str) -> PluralForms | None:
    if not (number_text.isascii() and number_text.isdigit() and 0 < int(number_text[:9]) <= _MAX_FORMS):
        raise ValueError(f"nplurals={number_text} is not a number from 1 to {_MAX_FORMS}")
    number = int(number_text)
    form = plural_expression(expression)
    try:
        forms = [form(n) for n in range(_CHECKED)]
    except ZeroDivisionError as error:
        raise ValueError("plural divides by zero") from error
    if max(forms) >= number:
        raise ValueError(f"plural gives form {max(forms)} for n = {forms.index(max(forms))}, nplurals={number}")
    return PluralForms(number, forms[1], general_plural(forms))


def general_plural(forms: list[int]) -> int:
    """The form that an English plural without a number goes with best.

    It is the form of most numbers, or that of n = 100; nearly everywhere they are the same. Where they differ, the
    later one is taken: by custom the forms for special numbers come first, and the last is what Unicode's CLDR calls
    "other". So it is that of 100 in Arabic, where "many" (11 to 99) is the form of most numbers, and in Lithuanian;
    but that of most numbers in Hebrew and Latvian, if their catalogs have a form for round tens.

    Args:
        forms: form by number, from 0 to 100 at least.
    """
    ((most, _),) = Counter(forms[2:]).most_common(1)
    return max(most, forms[100])
