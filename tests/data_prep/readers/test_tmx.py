"""Translation memories: languages, variants and markup; hostile ones; memory."""

from __future__ import annotations

import lzma
import tracemalloc
from pathlib import Path

import pytest

from data_prep.readers import tmx
from data_prep.readers.notes import Notes
from data_prep.readers.sides import SidePair, Unusable
from data_prep.readers.tmx import TmxSource, matches, read_tmx, sides_of_tag
from smoe_ds.errors import DataError

HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n<tmx version="1.4">\n<header/><body>\n'
)
TAIL = "</body></tmx>\n"


def variant(language: str, text: str) -> str:
    return f'<tuv xml:lang="{language}"><prop type="x">not text</prop><seg>{text}</seg></tuv>'


def unit(*variants: tuple[str, str]) -> str:
    return f"<tu><note>not text either</note>{''.join(variant(*each) for each in variants)}</tu>\n"


def read(folder: Path, content: str, *languages: str, encoding: str = "utf-8") -> list[SidePair]:
    path = folder / "memory.tmx"
    path.write_bytes(content.encode(encoding))
    return list(read_tmx(path, languages or ("en", "nso"), Notes(), refuse_invalid=False))


def test_units_in_both_languages(tmp_path: Path) -> None:
    content = HEAD + unit(("en", "One."), ("nso", "Tee.")) + unit(("en", "alone"), ("fr", "seul"))
    content += unit(("nso", "Pedi\n  tše."), ("en", "Two &amp; three &#x161;.")) + unit(("en", ""), ("nso", "x")) + TAIL
    pairs = [("One.", "Tee."), ("Two & three š.", "Pedi\n  tše."), ("", "x")]
    assert read(tmp_path, content) == pairs
    assert read(tmp_path, content, "nso", "en") == [(second, first) for first, second in pairs]
    assert read(tmp_path, content.replace("UTF-8", "UTF-16"), encoding="utf-16") == pairs
    path = tmp_path / "memory.tmx.xz"
    path.write_bytes(lzma.compress(content.encode()))
    assert list(read_tmx(path, ("en", "nso"), Notes(), refuse_invalid=False)) == pairs


@pytest.mark.parametrize(
    ("tag", "language", "expected"),
    [("en", "en", True), ("en-US", "en", True), ("EN_gb", "en", True), ("en", "en-US", False), ("eng", "en", False),
     ("en", "eng", False), ("zh-Hant-TW", "zh-hant", True), ("zh-Hant-TW", "zh-TW", False)],
)  # fmt: skip
def test_regional_variants(tag: str, language: str, expected: bool) -> None:
    assert matches(tag, language) is expected


@pytest.mark.parametrize(
    ("tag", "languages", "sides"),
    [
        ("zh-TW", ("zh", "zh-TW"), [1]), ("zh_tw", ("zh", "zh-TW"), [1]), ("zh", ("zh", "zh-TW"), [0]),
        ("zh-CN", ("zh", "zh-TW"), [0]), ("zh-Hant-TW", ("zh", "zh-TW"), [1]), ("zh-Hant-TW", ("zh-TW", "zh"), [0]),
        ("zh-TW-x-a", ("zh", "zh-TW"), [1]), ("zh-Hant-HK", ("zh-Hant", "zh-Hant-HK"), [1]),
        ("pt-BR", ("pt-BR", "pt"), [0]), ("pt-PT", ("pt-BR", "pt"), [1]), ("pt-BR", ("pt-PT", "pt-BR"), [1]),
        ("pt-AO", ("pt-PT", "pt-BR"), []), ("sr-Latn", ("sr", "sr_Latn"), [1]), ("en-GB", ("en", "nso"), [0]),
        ("fr", ("en", "nso"), []),
    ],
)  # fmt: skip
def test_a_variant_belongs_to_the_language_that_names_it_most_closely(
    tag: str, languages: tuple[str, str], sides: list[int]
) -> None:
    assert sides_of_tag(tag, languages) == sides


def test_two_variants_of_one_language(tmp_path: Path) -> None:
    content = HEAD + unit(("zh-CN", "软件"), ("zh-TW", "軟體")) + unit(("zh", "网络"), ("zh-TW", "網路")) + TAIL
    assert read(tmp_path, content, "zh", "zh-TW") == [("软件", "軟體"), ("网络", "網路")]
    assert read(tmp_path, content, "zh-TW", "zh") == [("軟體", "软件"), ("網路", "网络")]
    with pytest.raises(ValueError, match="one tag in two spellings"):
        TmxSource.model_validate({"tmx": "a", "languages": ["zh-TW", "zh_tw"]})


def notes_of(folder: Path, content: bytes, *, refuse_invalid: bool = False) -> tuple[list[SidePair], list[str]]:
    path, notes = folder / "memory.tmx", Notes()
    path.write_bytes(content)
    pairs = list(read_tmx(path, ("en", "nso"), notes, refuse_invalid=refuse_invalid))
    return pairs, notes.places


FORBIDDEN, INVALID, UNKNOWN = (
    (kind,) * 2 for kind in (Unusable.FORBIDDEN, Unusable.INVALID_UTF8, Unusable.UNKNOWN_ENTITY)
)


@pytest.mark.parametrize("text", ["a\x01b", "\x1f", "\0", "a&#1;", "&#x1F;b", "&#xFFFE;", "&#xD800;", "&#0;", "\ufffe",
                                  "\uffff", "&#1114112;", "&#99999999999999999999;"])  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_a_forbidden_character_costs_its_unit(
    tmp_path: Path, text: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = unit(("en", "Good \xe9&#233;&#x10FFFF;."), ("nso", "Botse."))
    bad = unit(("en", "fine"), ("nso", text)) + unit(("fr", text), ("de", "x"))
    content = (HEAD + good + bad + good + TAIL).replace(
        "UTF-8", {"utf-8": "UTF-8", "latin-1": "ISO-8859-1"}.get(encoding, "UTF-16")
    )
    expected = [("Good \xe9\xe9\U0010ffff.", "Botse."), FORBIDDEN, ("Good \xe9\xe9\U0010ffff.", "Botse.")]
    for size in (1, 7, 1 << 16):
        monkeypatch.setattr(tmx, "_CHUNK", max(size, 64))
        pairs, places = notes_of(tmp_path, content.encode(encoding, "xmlcharrefreplace"))
        assert pairs == expected
        assert places == ["memory.tmx: first unit with a character that XML forbids: line 6"]


def test_bytes_that_are_not_utf8_cost_their_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = unit(("en", "Good."), ("nso", "Botšê 😀.")).encode()
    bad = unit(("en", "fine"), ("nso", "BAD")).encode().replace(b"BAD", b"caf\xe9 \xed\xa0\x80")
    content = HEAD.encode() + good * 2 + bad + good + TAIL.encode()
    for size in (64, 65, 66, 67, 1 << 16):
        monkeypatch.setattr(tmx, "_CHUNK", size)
        pairs, places = notes_of(tmp_path, content)
        assert pairs == [*[("Good.", "Botšê 😀.")] * 2, INVALID, ("Good.", "Botšê 😀.")]
        assert places == ["memory.tmx: first unit that is not UTF-8: line 7"]
    with pytest.raises(DataError, match=r"memory.tmx: not UTF-8: the unit at line 7; convert the file, or set"):
        notes_of(tmp_path, content, refuse_invalid=True)
    with pytest.raises(DataError, match=r"not UTF-8: 2 of 3 units with non-ASCII bytes are invalid"):
        notes_of(tmp_path, HEAD.encode() + bad * 2 + good + TAIL.encode())


def test_a_forbidden_character_outside_units_costs_nothing(tmp_path: Path) -> None:
    content = HEAD.replace("<header/>", "<header><note>\x02</note></header>") + unit(("en", "a"), ("nso", "b")) + TAIL
    assert notes_of(tmp_path, content.encode()) == ([("a", "b")], [])


def test_a_variant_without_segment_is_empty_and_said(tmp_path: Path) -> None:
    empty = '<tu><tuv xml:lang="en"><seg>a</seg></tuv>\n<tuv xml:lang="nso"><note>x</note></tuv></tu>'
    pairs, places = notes_of(tmp_path, (HEAD + empty + unit(("en", "c"), ("nso", "d")) + empty + TAIL).encode())
    assert pairs == [("a", ""), ("c", "d"), ("a", "")]
    assert places == ["memory.tmx: first variant without <seg>: line 6"]


def test_every_variant_goes_with_every_other(tmp_path: Path) -> None:
    content = HEAD + unit(("en-US", "color"), ("en-GB", "colour"), ("NSO", "mmala"), ("nso-ZA", "mebala")) + TAIL
    assert read(tmp_path, content) == [(a, b) for a in ("color", "colour") for b in ("mmala", "mebala")]
    assert read(tmp_path, content, "en-gb", "nso-za") == [("colour", "mebala")]


def test_lang_of_older_versions(tmp_path: Path) -> None:
    content = (HEAD + unit(("en", "a"), ("nso", "b")) + TAIL).replace("xml:lang", "lang")
    assert read(tmp_path, content) == [("a", "b")]


def test_inline_markup_is_taken_out(tmp_path: Path) -> None:
    text = (
        'A <bpt i="1">&lt;b&gt;</bpt>bo<it pos="begin">[</it>ld<ept i="1">&lt;/b&gt;</ept> <hi>wo<hi>r</hi>d</hi>'
        '<ph>&lt;br/&gt;<sub>footnote</sub></ph>and<ut>{\\cs6</ut>on, <b>html</b>'
    )  # fmt: skip
    assert read(tmp_path, HEAD + unit(("en", text), ("nso", "x")) + TAIL) == [("A bold word and on, html", "x")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEAD + unit(("en", "a"), ("nso", "b")), "line 6, column 1: not well-formed XML .no element found.; fix"),
        (HEAD + "<tu>\n</seg></tu>", r"line 6, column \d+: not well-formed XML .mismatched tag."),
        (HEAD + "<tu><tuv><seg>x</seg></tuv></tu>" + TAIL, "line 5, column 5: tuv without xml:lang"),
        ("<html><body/></html>", "line 1, column 1: root element is html; expected tmx"),
        ("one line\ttwo columns\n", "line 1, column 1: not well-formed XML"),
        ("", "line 1, column 1: not well-formed XML .no element found."),
        (HEAD + unit(("en", "a"), ("fr", "b")) + unit(("en", "c"), ("fr", "d")) + TAIL,
         r"no unit has both en and nso; variants by xml:lang: en \(2\), fr \(2\); set 'languages'"),
        (HEAD + TAIL, "no unit has both en and nso; variants by xml:lang: none"),
        (HEAD.replace("UTF-8", "klingon") + TAIL, "cannot be decoded .unknown encoding.*; convert the file to UTF-8"),
        (HEAD.replace("UTF-8", "shift_jis") + TAIL, "cannot be decoded .multi-byte encodings"),
        (HEAD + "<a>" * 200, "more than 100 nested elements"),
        (HEAD + unit(*[("en", "a")] * 101, ("nso", "b")) + TAIL, "more than 100 variants in en in one unit"),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"memory.tmx: .*{message}"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    "begin",
    [
        "", '<?xml version="1.0"?>', "<?xml version='1.0' standalone='yes'?>", '<!DOCTYPE tmx SYSTEM "tmx14.dtd">',
        '<?xml version="1.0" encoding="UTF-8" standalone="yes" ?><!DOCTYPE tmx PUBLIC "-//LISA//DTD" "tmx14.dtd">',
    ],
)  # fmt: skip
def test_entities_of_html_are_read_and_unknown_ones_cost_their_unit(tmp_path: Path, begin: str) -> None:
    content = f"{begin}<tmx x='&attribute;'><header>&nosuch;&nbsp;</header><body>\n"
    content += unit(("en", "a&nbsp;b &eacute;&amp;&Nbsp;<ph>&nosuch;&nbsp;</ph>"), ("nso", "&ngE;&amp;nbsp;"))
    content += unit(("en", "x &company; &other;"), ("nso", "y")) + unit(("en", "c"), ("nso", "d"))
    content += unit(("fr", "&nosuch;&nbsp;"), ("en", "e"), ("nso", "f")) + TAIL
    path, notes = tmp_path / "memory.tmx", Notes()
    path.write_text(content, encoding="utf-8")
    pairs = list(read_tmx(path, ("en", "nso"), notes, refuse_invalid=False))
    assert pairs == [("a\xa0b é&\xa0 ", "≧̸&nbsp;"), UNKNOWN, ("c", "d"), ("e", "f")]
    assert notes.counts == {"html_entities": 4}
    assert notes.places == ["memory.tmx: first unit with an unknown entity, &company;: line 3"]


def test_entities_that_expand_a_billion_times(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">\n' for n in range(1, 10))
    content = f'<?xml version="1.0"?>\n<!DOCTYPE tmx [\n<!ENTITY l0 "lol">\n{entities}]>\n<tmx><body>&l9;</body></tmx>'
    with pytest.raises(DataError, match=r"line 2, column 1.: <!DOCTYPE ... \[...\]> declares entities"):
        read(tmp_path, content)


@pytest.mark.parametrize("declaration", ['<!ENTITY x SYSTEM "secret.txt">', '<!ENTITY % x SYSTEM "secret.dtd"> %x;'])
def test_other_files_are_never_read(tmp_path: Path, declaration: str) -> None:
    for name in ("secret.txt", "secret.dtd"):
        (tmp_path / name).write_text("secret")
    content = f"<!DOCTYPE tmx [{declaration}]><tmx><body>" + unit(("en", "a &x;"), ("nso", "b")) + TAIL
    with pytest.raises(DataError, match="declares entities"):
        read(tmp_path, content)
    (tmp_path / "tmx14.dtd").write_text('<!ENTITY secret "secret">')
    assert read(tmp_path, HEAD + unit(("en", "&secret;"), ("nso", "b")) + TAIL) == [UNKNOWN]


def test_a_segment_of_10_mb_is_too_long_and_the_rest_is_read(tmp_path: Path) -> None:
    content = HEAD + unit(("en", "x" * 10_000_000), ("nso", "a")) + unit(("en", "b"), ("nso", "c")) + TAIL
    assert read(tmp_path, content) == [(Unusable.TOO_LONG, "a"), ("b", "c")]


def test_a_tag_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tmx, "MAX_TOKEN_BYTES", 1 << 20)
    with pytest.raises(DataError, match=r"line 5, column 1: a tag or comment of more than 1 MiB"):
        read(tmp_path, HEAD + "<!--" + "x" * 2_000_000)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for size in (1_000, 8_000):
        path = tmp_path / f"{size}.tmx"
        path.write_text(HEAD + unit(("en", "word " * 30), ("nso", "lentšu " * 30)) * size + TAIL, encoding="utf-8")
        tracemalloc.start()
        assert sum(1 for _ in read_tmx(path, ("en", "nso"), Notes(), refuse_invalid=False)) == size
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] < 4_000_000
