"""Translation memories: languages, variants and markup; hostile ones; memory."""

from __future__ import annotations

import lzma
import tracemalloc
from pathlib import Path

import pytest

from data_prep.readers import tmx
from data_prep.readers.sides import SidePair, Unusable
from data_prep.readers.tmx import matches, read_tmx
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
    return list(read_tmx(path, languages or ("en", "nso")))


def test_units_in_both_languages(tmp_path: Path) -> None:
    content = HEAD + unit(("en", "One."), ("nso", "Tee.")) + unit(("en", "alone"), ("fr", "seul"))
    content += unit(("nso", "Pedi\n  tše."), ("en", "Two &amp; three &#x161;.")) + unit(("en", ""), ("nso", "x")) + TAIL
    pairs = [("One.", "Tee."), ("Two & three š.", "Pedi\n  tše."), ("", "x")]
    assert read(tmp_path, content) == pairs
    assert read(tmp_path, content, "nso", "en") == [(second, first) for first, second in pairs]
    assert read(tmp_path, content.replace("UTF-8", "UTF-16"), encoding="utf-16") == pairs
    path = tmp_path / "memory.tmx.xz"
    path.write_bytes(lzma.compress(content.encode()))
    assert list(read_tmx(path, ("en", "nso"))) == pairs


@pytest.mark.parametrize(
    ("tag", "language", "expected"),
    [("en", "en", True), ("en-US", "en", True), ("EN_gb", "en", True), ("en", "en-US", False), ("eng", "en", False),
     ("en", "eng", False), ("zh-Hant-TW", "zh-hant", True), ("zh-Hant-TW", "zh-TW", False)],
)  # fmt: skip
def test_regional_variants(tag: str, language: str, expected: bool) -> None:
    assert matches(tag, language) is expected


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
        (HEAD + unit(("en", "a\x01"), ("nso", "b")) + TAIL, "line 5, column 8.: not well-formed XML"),
        (HEAD + unit(("en", "a&nbsp;b"), ("nso", "b")) + TAIL, r"line 5, column \d+: unknown entity &nbsp;; replace"),
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
    with pytest.raises(DataError, match="unknown entity &secret;"):
        read(tmp_path, HEAD + unit(("en", "&secret;"), ("nso", "b")) + TAIL)


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
        assert sum(1 for _ in read_tmx(path, ("en", "nso"))) == size
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] < 4_000_000
