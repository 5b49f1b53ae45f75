"""Escaped characters are found in all their spellings, and nothing else is."""

from __future__ import annotations

import html
from html.entities import html5

import pytest

from data_prep.text.entities import has_entity, unescape, unescape_once
from data_prep.text.markup import clean_gettext, clean_mediawiki

ESCAPED = {
    "Moses": (
        "d&apos;eau &quot;x&quot; a &amp; b &#91; 1 &#93; c &#124; d &lt; e &gt;",
        'd\'eau "x" a & b [ 1 ] c | d < e >',
    ),
    "older Moses": ("a &bar; b &bra; c &ket;", "a | b [ c ]"),
    "numbers": ("it&#39;s &#x27;so&#X27; &#0039;", "it's 'so' '"),
    "letters": ("caf&eacute; na&iuml;ve &Scaron; &hellip;", "café naïve Š …"),
    "spaces": ("a&nbsp;b&#160;c&ensp;d&#10;e&NewLine;f", "a\xa0b\xa0c\u2002d e f"),
    "tags": ("&lt;b&gt;bold&lt;/b&gt;", "<b>bold</b>"),
    "twice": ("R&amp;amp;D &amp;quot;x&amp;quot; &amp;#39;", 'R&D "x" \''),
    "of Windows": ("it&#146;s &#147;so&#148;", "it’s “so”"),
    "torn": ("it & apos ; s & # 39 ; &# 39; &amp ; x & quot;", "it ' s ' ' & x \""),
    "other case": ("&AMP; &Quot; &LT;b&GT; &NBSP;", '& " <b> \xa0'),
    "signs of other scripts": ("&zwnj;&#8204;&#x200C;&#1575;", "\u200c\u200c\u200cا"),
    "beyond 16 bits": ("&#128512; &#x1F600;", "😀 😀"),
    "side by side": ("&lt;&lt;&amp;&#39;", "<<&'"),
}
PLAIN = ["", "a & b", "AT&T; x", "Q&A;", "?a=1&copy=2&lt=3", "R & D ;", "a &b; c", "&nosuch;", "&;", "&#;", "&#x;",
         "&#0;", "&#xD800;", "&#x110000;", "&#99999999;", "a & or ; b", "&#39", "&amp", "fish &chips;", "&\u00e9;",
         "＆amp；", "&#1;", "&#xFFFE;"]  # fmt: skip


@pytest.mark.parametrize("name", ESCAPED)
def test_unescape(name: str) -> None:
    escaped, text = ESCAPED[name]
    assert has_entity(escaped.encode()) and unescape(escaped.encode()).decode() == text
    assert not has_entity(text.encode())


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_escaped_character_stays(text: str) -> None:
    assert not has_entity(text.encode()) and unescape(text.encode()) == text.encode()


def test_every_name_of_html() -> None:
    for name in (name for name in html5 if name.endswith(";")):
        expected = html.unescape(f"&{name}").replace("\n", " ")
        assert unescape_once(f"x&{name}y".encode()).decode() == f"x{expected}y"


@pytest.mark.parametrize("text", ["a &amp; b", "c'est &apos;ça&apos;", "&#91;1&#93; &#124; &lt;x&gt; &quot;"])
def test_once_is_what_html_says(text: str) -> None:
    assert unescape_once(text.encode()).decode() == html.unescape(text)


def test_catalogs_keep_what_only_looks_escaped() -> None:
    """The library's `html.unescape` would make ``&copy=2`` a sign of copyright."""
    assert clean_mediawiki("See https://x.org/?a=1&copy=2&reg=3 now") == "See https://x.org/?a=1&copy=2&reg=3 now"
    assert clean_gettext("Save &notes and &copy them") == "Save &notes and &copy them"
    assert clean_mediawiki("Write &amp;lt; here") == "Write &lt; here"
