"""Readers other than of text pairs: TSV, gettext catalogs compiled and not, MediaWiki messages."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from data_prep.cleaning.clean import Cleaner
from data_prep.readers.block import Block
from data_prep.readers.notes import Notes
from data_prep.readers.source import Reading, read_source
from data_prep.spec.sections import Clean, Spec
from smoe_ds.errors import DataError

PO = r"""# Translators
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\n"
"Plural-Forms: nplurals=3; plural=n==1 ? 0 : n==2 ? 1 : 2;\n"

#: src/main.c:10
msgctxt "menu"
msgid "Open the file"
msgstr "Buka fail"

#, fuzzy, c-format
msgid "Wrong guess"
msgstr "Tekaan"

msgid "Untranslated"
msgstr ""

msgid "A \"quoted\" line\n"
"and another\twith \\ and \303\251"
msgstr ""
"Baris "
"kedua"

msgid "%d file"
msgid_plural "%d files"
msgstr[0] "%d fail satu"
msgstr[1] "%d fail dua"
msgstr[2] "%d fail banyak"

#~ msgid "Obsolete"
#~ msgstr "Lapuk"
#| msgid "Before"
msgid "After"
msgstr "Selepas"
"""


def mo_file(messages: list[tuple[str, str]], order: str = "<", charset: str = "UTF-8") -> bytes:
    """A compiled catalog, as msgfmt lays it out."""
    header = ("", f"Content-Type: text/plain; charset={charset}\n")
    entries = sorted((a.encode(charset), b.encode(charset)) for a, b in [header, *messages])
    start = 28 + 16 * len(entries)
    blob, tables = b"", ([], [])  # type: tuple[bytes, tuple[list[int], list[int]]]
    for side in (0, 1):
        for entry in entries:
            tables[side].extend((len(entry[side]), start + len(blob)))
            blob += entry[side] + b"\0"
    numbers = [0x950412DE, 0, len(entries), 28, 28 + 8 * len(entries), 0, 0, *tables[0], *tables[1]]
    return struct.pack(f"{order}{len(numbers)}I", *numbers) + blob


def read(folder: Path, source: dict[str, Any], pair: str = "eng-msa", pivot: str = "eng") -> list[tuple[Any, Any]]:
    spec = Spec.model_validate({"output": "x", "pivot": pivot, "pairs": [{"pair": pair, "train": [source]}]})
    first = spec.pairs[0]
    reading = Reading(first.languages, spec.key_language(first), Notes(), refuse_invalid=False)
    blocks = read_source(first.train[0], folder, reading)
    return [found for block in blocks for found in block.pairs()]


def test_po(tmp_path: Path) -> None:
    (tmp_path / "a.po").write_text(PO, encoding="utf-8")
    assert read(tmp_path, {"po": "a.po", "markup": "keep"}) == [
        ("Open the file", "Buka fail"),
        ('A "quoted" line\nand another\twith \\ and é', "Baris kedua"),
        ("%d file", "%d fail satu"),
        ("%d files", "%d fail banyak"),
        ("After", "Selepas"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('msgid "a"\nmsgstr "b"\nrubbish\n', r"a.po: line 3 is not a gettext statement: 'rubbish'"),
        ('msgid ""\nmsgstr "Content-Type: text/plain; charset=EUC-JQ\\n"\n', "unknown encoding 'EUC-JQ'; convert"),
        ('msgid ""\nmsgstr "Content-Type: text/plain; charset=idna\\n"\n', "unknown encoding 'idna'; convert"),
        (
            'msgid ""\nmsgstr "Content-Type: text/plain; charset=undefined\\n"\n',
            "unknown encoding 'undefined'; convert",
        ),
        ('msgid ""\nmsgstr "Content-Type: text/plain; charset=rot13\\n"\n', "unknown encoding 'rot13'; convert"),
        ('msgid "a"\n\nmsgid "b"\nmsgstr "c"\n', "line 1 begins a message without msgstr"),
        ('msgctxt "a"\nmsgctxt "b"\n', "line 1 begins a message without msgid"),
        ('msgid "a"\nmsgstr[0] "b"\n', "line 2 has msgstr.. where it cannot be"),
        ('msgid "a"\nmsgstr "b"\nmsgstr "c"\n', "line 3 has msgstr where it cannot be"),
        ('msgid "a"\nmsgid_plural "b"\nmsgstr[1] "c"\n', "line 1 begins a message with the forms 1, not 0, 1"),
        ('msgid "a"\nmsgid_plural "b"\nmsgstr[0] "c"\nmsgstr[0] "c"\n', "line 4 has msgstr.. where it cannot be"),
        ('msgid "a"\n#, fuzzy\nmsgstr "b"\n', "line 2 has flags inside a message"),
        ('msgid\nmsgstr "b"\n', "line 2 is not text of the msgid above it: 'msgstr'"),
        ('msgid "a\nmsgstr "b"\n', "line 1 is not a gettext statement"),
        ('msgid "a"\rmsgstr "b"\r', "lone CR characters"),
        ('msgidx "a"\n', "line 1 is not a gettext statement: 'msgidx"),
        (r'msgid "\351t\351"', "line 1 has escaped bytes that are not UTF-8"),
        ('"stray"\n', "line 1 is not a gettext statement"),
        ('msgid "a"\nmsgstr "b"\n# c\n"stray"\n', "line 4 is not a gettext statement"),
    ],
)
def test_damaged_po(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.po").write_text(text)
    with pytest.raises(DataError, match=message):
        read(tmp_path, {"po": "a.po"})


MESSAGES = [
    ("Open", "Buka"), ("menu\x04Close", "Tutup"), ("%d file\0%d files", "%d fail\0%d fail-fail"),
    ("one\0many", "satu bentuk"), ("Empty", ""), ("Café", "Kafé"),
]  # fmt: skip


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("charset", ["UTF-8", "ISO-8859-1"])
def test_mo(tmp_path: Path, order: str, charset: str) -> None:
    (tmp_path / "a.mo").write_bytes(mo_file(MESSAGES, order, charset))
    assert sorted(read(tmp_path, {"mo": "a.mo", "markup": "keep"})) == [
        ("%d file", "%d fail"),
        ("%d files", "%d fail-fail"),
        ("Café", "Kafé"),
        ("Close", "Tutup"),
        ("Open", "Buka"),
        ("many", "satu bentuk"),
    ]


def test_msgid_is_the_pivot_or_what_the_source_says(tmp_path: Path) -> None:
    (tmp_path / "a.mo").write_bytes(mo_file([("Open", "Buka")]))
    assert read(tmp_path, {"mo": "a.mo"}, pair="msa-eng") == [("Buka", "Open")]
    assert read(tmp_path, {"mo": "a.mo", "msgid": "msa"}, pair="msa-eng") == [("Open", "Buka")]


def test_damaged_mo(tmp_path: Path) -> None:
    data = mo_file(MESSAGES)
    for cut in (10, 60, len(data) - 30):
        (tmp_path / "a.mo").write_bytes(data[:cut])
        with pytest.raises(DataError, match=f"a.mo: truncated: its tables lie beyond its {cut} bytes"):
            read(tmp_path, {"mo": "a.mo"})
    (tmp_path / "a.mo").write_bytes(b"PK\3\4 no catalog")
    with pytest.raises(DataError, match=r"a.mo: is not a compiled gettext catalog"):
        read(tmp_path, {"mo": "a.mo"})
    (tmp_path / "a.mo").write_bytes(data.replace(b"charset=UTF-8", b"charset=UTF-9"))
    with pytest.raises(DataError, match=r"unknown encoding 'UTF-9'"):
        read(tmp_path, {"mo": "a.mo"})


def test_invalid_bytes_in_a_mo_are_one_unusable_message(tmp_path: Path) -> None:
    (tmp_path / "a.mo").write_bytes(mo_file([("Open", "Buka"), ("Close", "Tutup")]).replace(b"Buka", b"Bu\xff\xfe"))
    pairs = read(tmp_path, {"mo": "a.mo"})
    assert ("Close", "Tutup") in pairs and [a.value for a, b in pairs if not isinstance(a, str)] == ["invalid_utf8"]


def test_markup_is_stripped_unless_it_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.mo").write_bytes(mo_file([("_Open", "_Buka")]))
    assert read(tmp_path, {"mo": "a.mo"}) == [("Open", "Buka")]
    assert read(tmp_path, {"mo": "a.mo", "markup": "keep"}) == [("_Open", "_Buka")]
    for name, text in (("en", "'''Bold''' text"), ("ms", "Teks '''tebal'''")):
        (tmp_path / f"{name}.json").write_text(json.dumps({"key": text}))
    files = {"mediawiki": {"src": "en.json", "tgt": "ms.json"}}
    assert read(tmp_path, files) == [("Bold text", "Teks tebal")]
    assert read(tmp_path, files | {"markup": "keep"}) == [("'''Bold''' text", "Teks '''tebal'''")]


def test_invisible_characters_of_catalogs_stay_and_control_characters_are_counted(tmp_path: Path) -> None:
    """Catalogs are no other text than that of files: what is removed is in the report."""
    text = 'msgid "Ring the bell\\a"\nmsgstr "ตี\u200bระฆัง\\a"\n\nmsgid "Co\u00adoperate"\nmsgstr "ร่วม\u200bมือ"\n'
    (tmp_path / "a.po").write_text(text, encoding="utf-8")
    cleaner = Cleaner(Clean(), ("eng", "tha"), 0, held_out=False, seed=3)
    kept = cleaner(Block.of(read(tmp_path, {"po": "a.po"}, pair="eng-tha")))
    first, second = ([line.decode() for line in side] for side in kept.lines)
    assert first == ["Ring the bell", "Co\u00adoperate"] and second == ["ตี\u200bระฆัง", "ร่วม\u200bมือ"]
    assert cleaner.counts()["noticed"] == {"control_characters": 1}


def test_mediawiki_joins_by_key(tmp_path: Path) -> None:
    (tmp_path / "en.json").write_text(
        json.dumps({"@metadata": {"a": "b"}, "a": "One", "b": "Two", "c": ["x"], "d": "4"})
    )
    (tmp_path / "ms.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"b": "Dua", "a": "Satu", "e": "5"}).encode())
    files = {"mediawiki": {"src": "en.json", "tgt": "ms.json"}}
    assert read(tmp_path, files) == [("One", "Satu"), ("Two", "Dua")]
    (tmp_path / "ms.json").write_text('{\n"a": }')
    with pytest.raises(DataError, match=r"ms.json: line 2: not JSON"):
        read(tmp_path, files)
    (tmp_path / "ms.json").write_text("[1]")
    with pytest.raises(DataError, match=r"is a JSON list, expected an object"):
        read(tmp_path, files)
    (tmp_path / "ms.json").write_bytes(b'{"a": "\xe9"}')
    with pytest.raises(DataError, match=r"ms.json: not UTF-8: byte offset 7"):
        read(tmp_path, files)


def test_tsv(tmp_path: Path) -> None:
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(b'The "house\tRumah" itu\r\n\nTwo\tDua'))
    assert read(tmp_path, {"tsv": "a.tsv.gz"}) == [('The "house', 'Rumah" itu'), ("", ""), ("Two", "Dua")]
    (tmp_path / "b.tsv").write_text("score\tms\ten\n0.5\tRumah\tHouse\n0.4\tDua\tTwo\textra\n")
    columns = {"tsv": "b.tsv", "columns": [2, 1], "header": True}
    assert read(tmp_path, columns) == [("House", "Rumah"), ("Two", "Dua")]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a\tb\nc\n", {}, r"a.tsv: line 2 has 1 columns, expected exactly 2"),
        ("a\tb\nc\td\te\n", {}, r"a.tsv: line 2 has 3 columns, expected exactly 2"),
        ("a\tb\n", {"columns": [0, 2]}, r"a.tsv: line 1 has 2 columns, expected at least 3"),
    ],
)
def test_tsv_with_other_columns(tmp_path: Path, text: str, options: dict[str, Any], message: str) -> None:
    (tmp_path / "a.tsv").write_text(text)
    with pytest.raises(DataError, match=message):
        read(tmp_path, {"tsv": "a.tsv", **options})
