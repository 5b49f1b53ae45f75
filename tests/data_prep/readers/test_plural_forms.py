"""Plural forms by a catalog's header: real headers of many languages, Unicode's rules, and the library's own parser."""

from __future__ import annotations

import gettext
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from babel import Locale, localedata
from babel.plural import to_gettext
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.readers.mo import read_mo
from data_prep.readers.notes import Notes
from data_prep.readers.plural_expression import plural_expression
from data_prep.readers.plural_forms import PluralForms, plural_forms
from data_prep.readers.po import read_po
from tests.helpers.catalogs import compiled_catalog

SLAVIC = "n%10==1 && n%100!=11 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2"
# language: (nplurals, plural, form for n = 1, general plural), as catalogs of Debian have them
HEADERS: dict[str, tuple[int, str, int, int]] = {
    "ara": (6, "n==0 ? 0 : n==1 ? 1 : n==2 ? 2 : n%100>=3 && n%100<=10 ? 3 : n%100>=11 && n%100<=99 ? 4 : 5", 1, 5),
    "ara, no form for none": (4, "n==1 ? 0 : n==2 ? 1 : n>=3 && n<=10 ? 2 : 3", 0, 3),
    "ces": (3, "(n==1) ? 0 : (n>=2 && n<=4) ? 1 : 2", 0, 2),
    "ces, with fractions": (4, "(n == 1 && n % 1 == 0) ? 0 : (n >= 2 && n <= 4 && n % 1 == 0) ? 1: (n % 1 != 0) ? 2 "
                               ": 3", 0, 3),
    "cym": (4, "(n==1) ? 0 : (n==2) ? 1 : (n != 8 && n != 11) ? 2 : 3", 0, 2),
    "cym, six": (6, "(n==0) ? 0 : (n==1) ? 1 : (n==2) ? 2 : (n==3) ? 3 :(n==6) ? 4 : 5", 1, 5),
    "deu": (2, "(n != 1)", 0, 1),
    "eus, the other way round": (2, "(n==1)", 1, 0),
    "fil": (2, "(n == 1 || n==2 || n==3) || (n % 10 != 4 || n % 10 != 6 || n % 10 != 9) ? 0 : 1", 0, 0),
    "fra": (2, "n>1", 0, 1),
    "fra, millions": (3, "(n == 0 || n == 1) ? 0 : n != 0 && n % 1000000 == 0 ? 1 : 2", 0, 2),
    "gla": (4, "(n==1 || n==11) ? 0 : (n==2 || n==12) ? 1 : (n > 2 && n < 20) ? 2 : 3", 0, 3),
    "gle": (5, "n==1 ? 0 : n==2 ? 1 : n<7 ? 2 : n<11 ? 3 : 4", 0, 4),
    "glv": (4, "(n%10==1) ? 0 : ((n%10==2) ? 1 : ((n%100==0 || n%100==20 || n%100==40 || n%100==60 || n%100==80) ? 2 "
               ": 3))", 0, 3),
    "heb, round tens": (4, "(n==1) ? 0 : ((n==2) ? 1 : ((n>10 && n%10==0) ? 2 : 3))", 0, 3),
    "isl": (2, "n%10!=1 || n%100==11", 0, 1),
    "jpn": (1, "0", 0, 0),
    "jpn, two": (2, "0", 0, 0),
    "lav": (3, "(n%10==1 && n%100!=11 ? 0 : n != 0 ? 1 : 2)", 0, 1),
    "lav, form of none first": (3, "(n % 10 == 0 || n % 100 >= 11 && n % 100 <= 19) ? 0 : n % 10 == 1 ? 1 : 2", 1, 2),
    "lit": (3, "(n%10==1 && n%100!=11 ? 0 : n%10>=2 && (n%100<10 || n%100>=20) ? 1 : 2)", 0, 2),
    "mkd": (3, "n==1 || n%10==1 ? 0 : 1", 0, 1),
    "mlt": (4, "n==1 ? 0 : n==0 || (n%100>1 && n%100<11) ? 1 : (n%100>10 && n%100<20) ? 2 : 3", 0, 3),
    "pol": (3, "n==1 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2", 0, 2),
    "ron": (3, "n==1 ? 0: (((n%100>19)||((n%100==0)&&(n!=0)))? 2: 1)", 0, 2),
    "rus": (3, SLAVIC, 0, 2),
    "slk": (3, "(n==1) ? 1 : (n>=2 && n<=4) ? 2 : 0", 1, 0),
    "slv": (4, "(n%100==1 ? 1 : n%100==2 ? 2 : n%100==3 || n%100==4 ? 3 : 0)", 1, 0),
    "slv, in order": (4, "n%100==1 ? 0 : n%100==2 ? 1 : n%100==3 || n%100==4 ? 2 : 3", 0, 3),
    "srp": (4, f"n==1? 3 : {SLAVIC}", 3, 2),
    "tzm": (2, "n >= 2 && (n < 11 || n > 99)", 0, 1),
    "ukr": (3, SLAVIC, 0, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_real_headers(name: str) -> None:
    number, plural, one, many = HEADERS[name]
    header = f"Language: x\nPlural-Forms: nplurals={number}; plural={plural};\nX-Generator: y\n"
    assert plural_forms(header) == PluralForms(number, one, many)
    assert plural_forms(header.replace(";\nX", "\nX").replace("=", " = ", 2)) == PluralForms(number, one, many)
    ours, theirs = plural_expression(plural), gettext.c2py(plural)
    assert [ours(n) for n in range(1200)] == [theirs(n) for n in range(1200)]


LOCALES = sorted(name for name in localedata.locale_identifiers() if "_" not in name)


def test_the_general_plural_is_what_unicode_calls_other() -> None:
    """In every language of the CLDR whose form "other" is that of whole numbers; elsewhere that of 100."""
    differ = []
    for name in LOCALES:
        rule = Locale.parse(name).plural_form
        header = re.sub(r"\be\b", "0", to_gettext(rule))  # babel's variable for "1e6", which gettext does not know
        found = plural_forms(f"Plural-Forms: {header}\n")
        assert found is not None
        tags = [tag for tag in ("zero", "one", "two", "few", "many", "other") if tag in {*rule.tags, "other"}]
        general = "other" if "other" in {rule(n) for n in range(2, 1001)} else rule(100)
        assert tags[found.one] == rule(1), name
        differ += [name] * (tags[found.many] != general)
    assert len(LOCALES) > 200 and differ == [
        "ceb",
        "fil",
    ]  # there the form of 1, 2, 3, 5, 7, 8, 10 ... is the general one


operators = st.sampled_from(["+", "*", "%", "/", "==", "!=", "<", ">", "<=", ">="])
conditions = st.sampled_from(["&&", "||"])  # the library's give one of their sides, C's 0 or 1
expressions = st.recursive(
    st.sampled_from(["n", "0", "1", "2", "10", "100"]),
    lambda inner: st.one_of(
        st.tuples(inner, operators, inner).map(" ".join),
        st.tuples(inner, conditions, inner).map(lambda parts: f"({' '.join(parts)} ? 1 : 0)"),
        st.tuples(inner, inner, inner).map(lambda three: f"({three[0]} ? {three[1]} : {three[2]})"),
        inner.map(lambda one: f"({one})"),
        inner.map(lambda one: f"(!({one}) ? 1 : 0)"),
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(expressions, st.integers(0, 1000))
def test_expressions_equal_the_librarys(expression: str, n: int) -> None:
    def value(function: Any) -> Any:
        try:
            return int(function(n))
        except ZeroDivisionError:
            return "division by zero"

    assert value(plural_expression(expression)) == value(gettext.c2py(f"({expression})"))


def test_numbers_are_unsigned_and_conditions_look_no_further_than_they_must() -> None:
    assert plural_expression("n-1 > 5")(0) == 1
    assert plural_expression("n && 6/n == 3")(0) == plural_expression("n == 0 || 6/n")(0) - 1 == 0
    assert plural_expression("!!n + !n*2")(7) == 1


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("nplurals=2; plural=__import__('os').system('x');", "unexpected"),
        ("nplurals=2; plural=n.real;", "unexpected '.real'"),
        ("nplurals=2; plural=n != ;", "'the end' where a number, n or . is expected"),
        ("nplurals=2; plural=(n != 1;", "'the end' where '.' is expected"),
        ("nplurals=2; plural=n ? 1;", "'the end' where ':' is expected"),
        ("nplurals=2; plural=n 1;", "unexpected '1'"),
        ("nplurals=2; plural=n**n;", "'.' where a number"),
        ("nplurals=2; plural=-n;", "'-' where a number"),
        ("nplurals=2; plural=n = 1;", "unexpected '='"),
        ("nplurals=2; plural=;", "'the end' where a number"),
        ("nplurals=2; plural=n % (n - n);", "divides by zero"),
        ("nplurals=3; plural=n%10;", "gives form 9 for n = 9, nplurals=3"),
        ("nplurals=0; plural=0;", "nplurals=0 is not a number from 1 to 20"),
        ("nplurals=x; plural=0;", "nplurals=x is not a number"),
        ("nplurals=99999999999; plural=0;", "is not a number from 1 to 20"),
        ("nplural=2; plural=(n != 1);", "not of the form"),
        ("2", "not of the form"),
        (f"nplurals=2; plural={'(' * 60}n{')' * 60};", "more than 40 expressions within each other"),
        (f"nplurals=2; plural={'n+' * 5000}n;", "more than 400 operators"),
    ],
)
def test_headers_that_cannot_be_read(field: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message).replace(r"\.", ".")):
        plural_forms(f"Plural-Forms: {field}\n")


@pytest.mark.parametrize("header", ["", "Language: x\n", "Plural-Forms: \n",
                                    "Plural-Forms: nplurals=INTEGER; plural=EXPRESSION;\n"])  # fmt: skip
def test_headers_that_say_nothing(header: str) -> None:
    assert plural_forms(header) is None


def catalog(folder: Path, kind: str, field: str, messages: Sequence[Sequence[str]]) -> tuple[list[Any], Notes]:
    """The pairs of a catalog of (msgid, msgid_plural, forms ...)."""
    notes = Notes()
    if kind == "mo":
        (folder / "a.mo").write_bytes(
            compiled_catalog({f"{one}\0{many}": "\0".join(forms) for one, many, *forms in messages}, field)
        )
        return list(read_mo(folder / "a.mo", notes)), notes
    lines = ['msgid ""', 'msgstr ""', '"Content-Type: text/plain; charset=UTF-8\\n"', f'"{field}\\n"', ""]
    for one, many, *forms in messages:
        lines += [f'msgid "{one}"', f'msgid_plural "{many}"']
        lines += [f'msgstr[{number}] "{form}"' for number, form in enumerate(forms)]
    (folder / "a.po").write_text("\n".join(lines))
    return list(read_po(folder / "a.po", notes, refuse_invalid=False)), notes


KINDS = pytest.mark.parametrize("kind", ["mo", "po"])


@KINDS
@pytest.mark.parametrize("name", HEADERS)
def test_pairs(tmp_path: Path, kind: str, name: str) -> None:
    number, plural, one, many = HEADERS[name]
    message = ["%d day", "%d days", *(f"form {index}" for index in range(number))]
    pairs, notes = catalog(tmp_path, kind, f"Plural-Forms: nplurals={number}; plural={plural};", [message])
    expected = [("%d day", f"form {one}"), ("%d days", f"form {many}")]
    assert pairs == expected[one == many :]  # one form for both goes with the plural
    assert (notes.counts, notes.places) == ({}, [])


TWO, THREE, ONE = ["%d day", "%d days", "a", "b"], ["a dog", "dogs", "x", "y", "z"], ["a cat", "cats", "c"]


@KINDS
@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("X-Other: none", "the header has no Plural-Forms"),
        ("Plural-Forms: nplurals=INTEGER; plural=EXPRESSION;", "the header has no Plural-Forms"),
        ("Plural-Forms: nplurals=2; plural=n=1;", "Plural-Forms cannot be read (unexpected '=1')"),
    ],
)
def test_an_unreadable_header_is_said_once_with_what_is_then_done(
    tmp_path: Path, kind: str, field: str, reason: str
) -> None:
    pairs, notes = catalog(tmp_path, kind, field, [ONE, TWO, THREE, THREE[1::-1] + THREE[2:]])
    assert sorted(pairs) == [("%d day", "a"), ("%d days", "b"), ("cats", "c")]
    assert notes.counts == {"plural_forms": 2}
    assert notes.places == [
        f"a.{kind}: {reason}; in plural messages of two forms the second is taken for the plural; those of more are "
        "left out"
    ]
    assert catalog(tmp_path, kind, field, [ONE])[1].places == []  # no doubt about one form


@KINDS
def test_messages_with_another_number_of_forms_are_left_out_and_said(tmp_path: Path, kind: str) -> None:
    field = "Plural-Forms: nplurals=2; plural=n != 1;"
    pairs, notes = catalog(tmp_path, kind, field, [ONE, TWO, THREE])
    assert pairs == [("%d day", "a"), ("%d days", "b")] and notes.counts == {"plural_forms": 2}
    assert sorted(notes.places) == [
        f"a.{kind}: the header says nplurals=2, but a message has {number}; it is left out" for number in (1, 3)
    ]


@KINDS
def test_forms_that_are_not_translated_yet(tmp_path: Path, kind: str) -> None:
    field = "Plural-Forms: nplurals=3; plural=n==0 ? 0 : n==1 ? 1 : 2;"
    messages = [["a day", "days", "", "one", "many"], ["a dog", "dogs", "none", "", "many"],
                ["a cat", "cats", "none", "one", ""], ["a cow", "cows", "", "", ""]]  # fmt: skip
    pairs, notes = catalog(tmp_path, kind, field, messages)
    assert sorted(pairs) == [("a cat", "one"), ("a day", "one"), ("days", "many"), ("dogs", "many")]
    assert not notes.counts
