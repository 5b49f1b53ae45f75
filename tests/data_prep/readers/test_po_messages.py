"""The .po reader beside gettext's own programs: the same messages counted, on nasty catalogs and on compiled ones."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from data_prep.readers.mo import read_mo
from data_prep.readers.notes import Notes
from data_prep.readers.po import catalog_messages, read_po
from data_prep.readers.sides import SidePair, Unusable
from smoe_ds.errors import DataError
from tests.helpers.prepared import prepare_spec, sentence, translate

CONTENT = '"Content-Type: text/plain; charset=UTF-8\\n"\n"Plural-Forms: nplurals=2; plural=n != 1;\\n"\n'
HEADER = f'msgid ""\nmsgstr ""\n{CONTENT}\n'
E, F, G = ('msgid "e"\nmsgstr "f"\n', 'msgid "f"\nmsgstr "g"\n', 'msgid "g"\nmsgstr "h"\n')
OLD, OLDER = ('#~ msgid "old"\n#~ msgstr "alt"\n', '#~ msgid "older"\n#~ msgstr "älter"\n')
FORMS = 'msgid "a day"\nmsgid_plural "days"\n'
needs_msgfmt = pytest.mark.skipif(shutil.which("msgfmt") is None, reason="needs gettext's msgfmt")

# name: (catalog behind the header, messages translated)
CATALOGS: dict[str, tuple[str, int]] = {
    "nothing": ("", 0),
    "fuzzy": (f"#, fuzzy\n{E}{F}", 1),
    "fuzzy among flags": (f"#, c-format, fuzzy\n{E}#,fuzzy\n{F}#, c-format fuzzy\n{G}", 0),
    "flags that only look like it": (f"#, no-fuzzy\n{E}#, fuzzy-logic\n{F}#. fuzzy\n# fuzzy\n#: fuzzy:1\n{G}", 3),
    "of two lines of flags the last one counts": (f"#, fuzzy\n#, c-format\n{E}#, c-format\n#, fuzzy\n{F}", 1),
    "fuzzy obsolete entry": (f"#, fuzzy\n{OLD}\n{E}", 1),
    "fuzzy obsolete entry without an empty line": (f"{E}#, fuzzy\n{OLD}{F}", 2),
    "fuzzy obsolete entries in a row": (f"#, fuzzy\n{OLD}\n#, fuzzy\n{OLDER}\n{E}#, fuzzy\n{F}", 1),
    "fuzzy obsolete entry with a previous id": (f'#, fuzzy\n#~| msgid "older"\n{OLD}{E}', 1),
    "fuzzy obsolete entry with a context": (f'#, fuzzy\n#~ msgctxt "menu"\n{OLD}{E}', 1),
    "fuzzy flag inside an obsolete entry": (f"#~ #, fuzzy\n{OLD}{E}", 1),
    "fuzzy flag that is obsolete alone": (f"#~ #, fuzzy\n{E}{F}", 1),
    "fuzzy obsolete plural": (f'#, fuzzy\n#~ msgid "a"\n#~ msgid_plural "b"\n#~ msgstr[0] "c"\n{E}', 1),
    "obsolete entry of several lines": (f'#, fuzzy\n#~ msgid ""\n#~ "old\\n"\n#~ "x"\n#~ msgstr ""\n#~ "alt"\n{E}', 1),
    "obsolete entry at the end": (f"{E}\n#, fuzzy\n{OLD}", 1),
    "previous id": (f'#, fuzzy\n#| msgid "before"\n#| "this"\n{E}{F}', 1),
    "previous id and context": (f'#, fuzzy\n#| msgctxt "a"\n#| msgid "b"\n#| msgid_plural "c"\n{E}{F}', 1),
    "previous id of a message that is sure": (f'#| msgid "before"\n{E}{F}', 2),
    "flag at the end of the file": (f"{E}#, fuzzy\n", 1),
    "flag before a comment": (f"#, fuzzy\n# note\n#. hint\n#: a.c:1\n\n\n{E}{F}", 1),
    "flag before a domain": (f'#, fuzzy\ndomain "other"\n{E}', 1),
    "comments between": (f"# a\n{E}# b\n#. c\n#: d:1\n\n# e\n\n{F}# f\n", 2),
    "contexts": (f'msgctxt "menu"\n{E}msgctxt "page"\n{E}msgctxt ""\n{F}{E}', 4),
    "fuzzy context": (f'#, fuzzy\nmsgctxt "menu"\n{E}{E}', 1),
    "an empty id with a context": (f'msgctxt "menu"\nmsgid ""\nmsgstr "x"\n{E}', 2),
    "several lines": ('msgid ""\n"one "\n"two"\nmsgstr ""\n"eins "\n\n"zwei"\n' + E, 2),
    "untranslated": (f'msgid "x"\nmsgstr ""\n\nmsgid "y"\nmsgstr ""\n""\n{E}', 1),
    "no spaces": ('msgid"x"msgstr"y"msgctxt"c"msgid"x"msgstr"z"', 2),
    "all on one line": ('msgid "x" "y" msgstr "z" msgid "y" msgstr "z"', 2),
    "a statement a line": ('msgid\n"x"\nmsgstr\n"y"\n', 1),
    "tabs and form feeds": ('\tmsgid\t"x"\f\nmsgstr\v"y" \n', 1),
    "domain": (f'{E}domain "x"\n{F}domain"y"\n{G}', 3),
    "plural": (f'{FORMS}msgstr[0] "x"\nmsgstr[1] "y"\n{E}', 2),
    "plural with spaces": (f'{FORMS}msgstr [ 0 ] "x"\nmsgstr[ 1 ]"y"\n', 1),
    "plural untranslated": (f'{FORMS}msgstr[0] ""\nmsgstr[1] ""\n{E}', 1),
    "plural without the singular": (f'{FORMS}msgstr[0] ""\nmsgstr[1] "y"\n{E}', 1),
    "fuzzy plural": (f'#, fuzzy\n{FORMS}msgstr[0] "x"\nmsgstr[1] "y"\n{E}', 1),
    "escapes": ('msgid "\\t\\"b\\"\\\\\\n"\nmsgstr "#, fuzzy\\n"\n' + E, 2),
    "statements in text": ('msgid "msgid \\"x\\""\nmsgstr "#~ msgid"\n' + E, 2),
    "quotes in comments": (f'# "a\n#. msgid "x\n{E}#~\n{F}', 2),
    "no line end at the end": (E.rstrip("\n"), 1),
}  # fmt: skip


def msgfmt_counts(path: Path) -> int:
    """The translated messages that ``msgfmt --statistics`` counts."""
    command = ["msgfmt", "--statistics", "-o", os.devnull, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"})
    counted = re.search(r"(\d+) translated message", done.stderr)
    assert counted, done.stderr
    return int(counted[1])


def num_translated(path: Path) -> int:
    """The same by our reader; for gettext a plural message is translated if its first form is."""
    messages = catalog_messages(path, Notes(), refuse_invalid=True)
    return sum(not message.fuzzy and not message.is_header and bool(message.translations[0]) for message in messages)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("name", CATALOGS)
def test_translated_messages(tmp_path: Path, name: str, ends: str) -> None:
    content, number = CATALOGS[name]
    path = tmp_path / "a.po"
    path.write_bytes((HEADER + content).replace("\n", ends).encode())
    assert num_translated(path) == number
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert num_translated(path) == number


@needs_msgfmt
@pytest.mark.parametrize("name", CATALOGS)
def test_the_same_as_msgfmt_counts(tmp_path: Path, name: str) -> None:
    for ends in ("\n", "\r\n"):
        (tmp_path / "a.po").write_bytes((HEADER + CATALOGS[name][0]).replace("\n", ends).encode())
        assert msgfmt_counts(tmp_path / "a.po") == CATALOGS[name][1]


@needs_msgfmt
@pytest.mark.parametrize("seed", range(6))
def test_the_same_as_msgfmt_in_mixed_catalogs(tmp_path: Path, seed: int) -> None:
    """Catalogs put together from pieces like those of real ones, in any order."""
    rng = random.Random(seed)
    path = tmp_path / "a.po"
    text = HEADER
    for number in range(200):
        english, other = sentence(number), translate(sentence(number), "nso")
        flags = rng.choice(["", "", "#, fuzzy\n", "#, c-format\n", "#, c-format, fuzzy\n"])
        before = rng.choice(["", "# note\n", f"#: src/{number}.c:1\n", '#| msgid "old"\n#| "er"\n'])
        message = rng.choice([
            f'msgid "{english}"\nmsgstr "{other}"\n', f'msgid ""\n"{english}"\nmsgstr ""\n"{other}"\n',
            f'msgctxt "{number}"\nmsgid "same"\nmsgstr "{other}"\n', f'msgid "{english}"\nmsgstr ""\n',
            f'msgid "{english}"\nmsgid_plural "{english}s"\nmsgstr[0] "{other}"\nmsgstr[1] "{other}s"\n',
        ])  # fmt: skip
        if rng.random() < 0.3:
            message = "".join(f"#~ {line}\n" for line in message.splitlines())
            before = before.replace("#|", "#~|")
        text += flags + before + message + rng.choice(["\n", "", "\n\n"])
    path.write_text(text)
    assert num_translated(path) == msgfmt_counts(path) > 30
    subprocess.run(["msgfmt", "-o", tmp_path / "a.mo", path], check=True)
    ours, compiled = read_po(path, Notes(), refuse_invalid=True), read_mo(tmp_path / "a.mo", Notes())
    assert Counter(ours) == Counter(compiled)


PO = HEADER + 'msgid "Café"\nmsgstr "né 表"\n'


TEXTS = {
    "UTF-8": "žluťoučký kůň 表",
    "ISO-8859-2": "žluťoučký kůň",
    "windows-1250": "žlutý „kůň“",
    "KOI8-R": "конь",
    "EUC-JP": "表示する",
    "SHIFT_JIS": "表示ソ",
    "BIG5": "功能許",
    "GB18030": "软件 𠀀",
    "EUC-KR": "파일",
}


@pytest.mark.parametrize(("charset", "text"), TEXTS.items())
@pytest.mark.parametrize("layout", ["usual", "one line", "divided"])
def test_encodings(tmp_path: Path, charset: str, text: str, layout: str) -> None:
    """Shift_JIS and Big5 have characters whose second byte is a backslash."""
    fields = {"usual": ['""', f'"Content-Type: text/plain; charset={charset}\\n"'],
              "one line": [f'"Language: x\\nContent-Type: text/plain; charset={charset}\\n"'],
              "divided": ['"Content-Type: text/plain; "', f'"charset={charset}\\n"']}[layout]  # fmt: skip
    path = tmp_path / "a.po"
    catalog = f'# {text}\nmsgid ""\nmsgstr {chr(10).join(fields)}\n\nmsgid "Open it"\nmsgstr "{text}"\n'
    path.write_bytes(catalog.encode(charset))
    assert list(read_po(path, Notes(), refuse_invalid=True)) == [("Open it", text)]
    if shutil.which("msgfmt") and charset not in ("SHIFT_JIS", "BIG5"):  # which it cannot read with such characters
        assert msgfmt_counts(path) == num_translated(path) == 1


def read(path: Path, content: bytes, *, refuse_invalid: bool = False) -> tuple[list[SidePair], Notes]:
    notes = Notes()
    path.write_bytes(content)
    return list(read_po(path, notes, refuse_invalid=refuse_invalid)), notes


def test_invalid_bytes_cost_their_message_and_are_said(tmp_path: Path) -> None:
    path = tmp_path / "a.po"
    content = (HEADER + "".join(f'msgid "{n}"\nmsgstr "é{n}"\n' for n in range(5))).encode()
    pairs, notes = read(path, content.replace("é3".encode(), b"\xe93"))
    assert pairs == [("0", "é0"), ("1", "é1"), ("2", "é2"), ("3", Unusable.INVALID_UTF8), ("4", "é4")]
    assert notes.places == ["a.po: first line that is not UTF-8: line 13"]
    for refuse, data in (
        (True, content.replace("é3".encode(), b"\xe93")),
        (False, content.replace(b"\xc3\xa9", b"\xe9")),
    ):
        with pytest.raises(DataError, match=r"a.po: not UTF-8: \d of 5 lines with non-ASCII bytes are invalid"):
            read(path, data, refuse_invalid=refuse)


def test_bytes_spelled_as_numbers_are_in_the_catalogs_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.po"
    assert read(path, (HEADER + r'msgid "A"' + "\n" + r'msgstr "caf\303\251\x21"').encode())[0] == [("A", "café!")]
    latin = HEADER.replace("UTF-8", "ISO-8859-1") + r'msgid "A"' + "\n" + r'msgstr "caf\351"'
    assert read(path, latin.encode())[0] == [("A", "café")]


def test_of_two_headers_the_first_counts_and_the_second_is_said(tmp_path: Path) -> None:
    other = HEADER.replace("n != 1", "n == 1")
    message = 'msgid "day"\nmsgid_plural "days"\nmsgstr[0] "a"\nmsgstr[1] "b"\n'
    pairs, notes = read(tmp_path / "a.po", (HEADER + message + other).encode())
    assert pairs == [("day", "a"), ("days", "b")]
    assert notes.places == ["a.po: line 10 begins another header; only the first one counts"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_16_is_refused(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(DataError, match=r"a.po: is in UTF-16 or UTF-32"):
        read(tmp_path / "a.po", (HEADER + E).encode(encoding))


def test_a_fuzzy_header_is_a_header(tmp_path: Path) -> None:
    latin = ("#, fuzzy\n" + HEADER.replace("UTF-8", "ISO-8859-1") + 'msgid "A"\nmsgstr "é"\n').encode("latin-1")
    assert read(tmp_path / "a.po", latin)[0] == [("A", "é")]


@needs_msgfmt
@pytest.mark.parametrize("endianness", ["little", "big"])
def test_messages_that_depend_on_the_platform(tmp_path: Path, endianness: str) -> None:
    """They are in tables of their own in a .mo file."""
    messages = {
        "Found %<PRIu64> bytes": "%<PRIu64> bytes gefunden",
        "%<PRId32> of %<PRIuMAX>": "%<PRId32> von %<PRIuMAX>!",
    }
    text = HEADER + E + "".join(f'#, c-format\nmsgid "{a}"\nmsgstr "{b}"\n\n' for a, b in messages.items())
    (tmp_path / "a.po").write_text(text)
    command = ["msgfmt", f"--endianness={endianness}", "-o", tmp_path / "a.mo", tmp_path / "a.po"]
    subprocess.run(command, check=True)
    assert sorted(read_mo(tmp_path / "a.mo", Notes())) == sorted([("e", "f"), *messages.items()])
    data = (tmp_path / "a.mo").read_bytes()
    (tmp_path / "a.mo").write_bytes(data[:-30])
    with pytest.raises(DataError, match=r"a.mo: truncated"):
        list(read_mo(tmp_path / "a.mo", Notes()))


def test_the_report_says_what_is_wrong_with_a_catalog(tmp_path: Path) -> None:
    messages = "".join(
        f'msgid "{sentence(n)}"\nmsgid_plural "{sentence(n + 100)}"\n'
        + "".join(f'msgstr[{form}] "{translate(sentence(n), "nso")} {form}"\n' for form in range(3 if n % 2 else 2))
        for n in range(80)
    )
    (tmp_path / "a.po").write_text(HEADER.replace("n != 1", "n %% 2") + messages)
    manifest = prepare_spec(tmp_path, {
        "output": "out", "pairs": [{"pair": "eng-nso", "train": {"po": "a.po"}, "valid": [], "test": []}],
        "sentencepiece": {"vocab_size": 400, "allow_smaller": True, "num_threads": 1},
    }).manifest  # fmt: skip
    report = manifest["report"]["eng-nso"]["train"]
    assert (report["read"], report["noticed"]["plural_forms"]) == (80, 40)
    assert any("eng-nso train: a.po: Plural-Forms cannot be read ('%' where" in text for text in manifest["warnings"])
