"""Turns the strings of translation catalogs into plain text: markup goes, words and placeholders stay.

A string that still holds markup afterwards becomes ``""``: half-cleaned text teaches a model the markup.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from data_prep.text.entities import unescape_once

# Tags of HTML, MediaWiki and Pango; others, as in "Usage: apt <command>", are text.
_TAG_NAMES = (
    "a|abbr|b|bdi|bdo|big|blockquote|br|center|cite|code|dd|del|dfn|div|dl|dt|em|font|h[1-6]|hr|i|ins|kbd|li|nowiki|ol|"
    "p|pre|q|s|samp|section|small|span|strike|strong|sub|sup|syntaxhighlight|table|tbody|td|th|thead|tr|tt|u|ul|var|wbr"
)
_TAG = re.compile(rf"</?(?:{_TAG_NAMES})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_LIST_ITEM = re.compile(r"\n(?=[*#:;=])")

_WIKI_LINK = re.compile(r"\[\[([^\[\]]*)\]\]")
_FILE_LINK = re.compile(r":?(?:file|image|category)\s*:", re.IGNORECASE)
_WEB_LINK = re.compile(r"\[(?:https?://|mailto:|//|\$\d|\{\{)[^\s\[\]]*\s+([^\[\]]+)\]")
_TEMPLATE = re.compile(r"\{\{([^{}]*)\}\}")
_MAGIC_WORD = re.compile(r"__[A-Z]+__")
_EXPLICIT_FORM = re.compile(r"\s*\d+\s*=")
_UNKNOWN = "\x00"  # stands for a template that cannot be expanded
_LEFT_OVER = re.compile(r"\{\{|\}\}|\[\[|\]\]|\{\|")
_QUOTES = re.compile(r"'{2,5}")
_BLOCK_MARK = re.compile(r"^\s*(?:[*#:;]+\s*|={2,6}\s*)")
_HEADING_END = re.compile(r"\s*={2,6}\s*$")

_CONTEXT = re.compile(r"^[^\x04]*\x04")
_ACCELERATOR_SUFFIX = re.compile(r"\s*\([_~&]\w\)")
_TILDE_ACCELERATOR = re.compile(r"~(?=\w)")
_UNDERSCORE_WORD = re.compile(r"\w*_\w*")
_AMPERSAND_ACCELERATOR = re.compile(r"&(?=\w)(?!#?\w+;)")
_MAX_LABEL_WORDS = 12


def paragraphs(text: str, *, list_items: bool) -> list[str]:
    """Splits a message at its blank lines and, for wiki text, before each list item and heading.

    Args:
        text: a message as the catalog holds it.
        list_items: also split before lines that start with a wiki list or heading mark.

    Returns:
        The pieces in order, empty ones left out.
    """
    pieces = _PARAGRAPH.split(text.replace("\r\n", "\n"))
    if list_items:
        pieces = [item for piece in pieces for item in _LIST_ITEM.split(piece)]
    return [piece for piece in pieces if piece.strip()]


def clean_mediawiki(text: str) -> str:
    """One MediaWiki message as plain text on one line; ``""`` when it cannot be freed of markup.

    ``{{PLURAL:}}`` becomes its plural, ``{{GENDER:}}`` its first form, links what they show; ``$1`` stays.
    """
    text = _COMMENT.sub("", text)
    text = _BLOCK_MARK.sub("", _HEADING_END.sub("", text))
    text = _replace_until_stable(_WEB_LINK, _replace_until_stable(_WIKI_LINK, text, _shown_link), lambda m: m[1])
    text = _replace_until_stable(_TEMPLATE, text, _expand_template)
    text = _replace_until_stable(_WEB_LINK, _replace_until_stable(_WIKI_LINK, text, _shown_link), lambda m: m[1])
    if _UNKNOWN in text or _LEFT_OVER.search(text):
        return ""
    text = _MAGIC_WORD.sub("", text)
    return _plain(_QUOTES.sub("", text))


def clean_gettext(text: str) -> str:
    """One gettext string, source or translation, as plain text on one line.

    Contexts (``ctx\\x04text``) and accelerator marks (``_File``, ``~File``, ``&File``, ``(_F)``) go; ``%s`` stays.
    """
    text = _CONTEXT.sub("", text)
    text = _ACCELERATOR_SUFFIX.sub("", text)
    text = _TILDE_ACCELERATOR.sub("", text)
    text = _without_underscore(text)
    text = _without_ampersand(text)
    return _plain(text)


def strip_bar_context(source: str, target: str) -> str:
    """The source without an old-style ``context|``, which translators leave out: ``Color name|Red`` is ``Red``.

    Args:
        source: gettext ``msgid``.
        target: its translation, which tells a context (no bar in it) from a bar that is text.

    Returns:
        The source, from behind its last bar on if the target has none.
    """
    context, bar, rest = source.rpartition("|")
    return rest if bar and "|" not in target and rest and context == context.strip() else source


def _plain(text: str) -> str:
    """Tags and entities out, white space of every kind to single spaces; all else is for `smoe_ds.data.tidy`, which
    treats every text alike, and for its count."""
    text = _TAG.sub(lambda tag: " " if re.match(r"</?(?:br|p|li|div|td|tr|hr)\b", tag[0], re.IGNORECASE) else "", text)
    text = unescape_once(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")
    return " ".join(text.split())


def _replace_until_stable(pattern: re.Pattern[str], text: str, replace: Callable[[re.Match[str]], str]) -> str:
    """Innermost first: the patterns match only what holds no further bracket."""
    while (replaced := pattern.sub(replace, text)) != text:
        text = replaced
    return text


def _shown_link(match: re.Match[str]) -> str:
    target, bar, shown = match[1].partition("|")
    if _FILE_LINK.match(target):
        return ""
    return shown if bar else target.lstrip(":")


def _expand_template(match: re.Match[str]) -> str:
    name, _, rest = match[1].partition(":")
    kind, forms = name.strip().upper(), rest.split("|")
    if kind == "PLURAL":
        counted = [form for form in forms[1:] if not _EXPLICIT_FORM.match(form)]
        return counted[-1].strip() if counted else _UNKNOWN
    if kind == "GENDER":
        return forms[1].strip() if len(forms) > 1 else ""
    if kind == "GRAMMAR":
        return forms[-1].strip()
    if kind in {"FORMATNUM", "BIDI", "LC", "UC", "LCFIRST", "UCFIRST"}:
        return forms[0].strip()
    if not rest and re.fullmatch(r"[A-Z]+", name.strip()):
        return name.strip()  # a variable such as {{SITENAME}} or {{PAGENAME}}
    return _UNKNOWN  # another message, a parser function: unknown here


def _without_underscore(text: str) -> str:
    """Drops the one underscore of a menu label; leaves ``file_name``, ``LC_ALL`` and ``__`` alone."""
    marked = [word for word in _UNDERSCORE_WORD.findall(text) if "_" in word]
    if len(marked) != 1 or marked[0].count("_") != 1 or marked[0].endswith("_"):
        return text
    word = marked[0]
    before, _, _after = word.partition("_")
    is_name = bool(before) and (word.isupper() or text.endswith(".") or len(text.split()) > _MAX_LABEL_WORDS)
    return text if is_name else text.replace("_", "")


def _without_ampersand(text: str) -> str:
    """Drops the one ampersand of a menu label; leaves ``Q&A``, entities and a lone ``&`` alone."""
    marks = list(_AMPERSAND_ACCELERATOR.finditer(text))
    if len(marks) != 1:
        return text
    at = marks[0].start()
    if at and text[at - 1].isupper() and text[at + 1].isupper():
        return text
    return text[:at] + text[at + 1 :]
