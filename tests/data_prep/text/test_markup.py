"""Catalog markup becomes plain text; words and placeholders survive."""

from __future__ import annotations

import pytest

from data_prep.text.markup import clean_gettext, clean_mediawiki, paragraphs, strip_bar_context

MEDIAWIKI = {
    "plural": ("$1 {{PLURAL:$1|page|pages}} found", "$1 pages found"),
    "plural with explicit form": ("{{PLURAL:$1|0=No pages|one page|$1 pages}} left", "$1 pages left"),
    "plural explicit form last": ("{{PLURAL:$1|one page|$1 pages|0=no page}} left", "$1 pages left"),
    "plural of links": ("See {{PLURAL:$1|[[A|this page]]|[[B|these pages]]}} now", "See these pages now"),
    "gender": ("{{GENDER:$1|He|She|They}} edited this", "He edited this"),
    "nested": ("{{PLURAL:$1|{{GENDER:$2|his|her}} edit|{{GENDER:$2|his|her}} edits}}", "his edits"),
    "grammar": ("About {{GRAMMAR:genitive|{{SITENAME}}}}", "About SITENAME"),
    "number": ("{{formatnum:$1}} edits", "$1 edits"),
    "link": ("Go to [[Special:Log|the log]] first", "Go to the log first"),
    "plain link": ("Go to [[Main Page]] first", "Go to Main Page first"),
    "link that shows a template": ("[[A|{{PLURAL:$1|an edit|edits}}]] made", "edits made"),
    "file": ("See [[File:Icon.png|20px]]this text", "See this text"),
    "web link": ("Read [https://example.org/x the manual] first", "Read the manual first"),
    "web link with template": ("Use [{{fullurl:Special:Log|type=x}} this log] now", "Use this log now"),
    "web link with parameter": ("Use [$1 this link] now", "Use this link now"),
    "bold and italics": ("'''Warning:''' this is ''not'' '''''safe'''''", "Warning: this is not safe"),
    "apostrophe": ("Don't touch the user's page", "Don't touch the user's page"),
    "tags": ('<span class="x">Some</span> <code>code</code><br />here', "Some code here"),
    "comment": ("Some <!-- hidden --> text", "Some text"),
    "other angle brackets": ("Usage: apt <command>", "Usage: apt <command>"),
    "entities": ("Search&nbsp;&amp; replace &quot;x&quot;", 'Search & replace "x"'),
    "heading": ("== Some heading here ==", "Some heading here"),
    "list item": ("* one item", "one item"),
    "magic word": ("__NOTOC__Some text", "Some text"),
    "another message": ("See {{int:other}} here", ""),
    "parser function": ("{{#if:$1|a|b}} text", ""),
    "table": ('{| class="x"', ""),
    "unbalanced": ("Some [[text here", ""),
}


@pytest.mark.parametrize(("text", "expected"), MEDIAWIKI.values(), ids=MEDIAWIKI.keys())
def test_mediawiki(text: str, expected: str) -> None:
    assert clean_mediawiki(text) == expected


GETTEXT = {
    "context": ("menu item\x04Open the file", "Open the file"),
    "underscore at start": ("_Open File", "Open File"),
    "underscore inside": ("Re_name this", "Rename this"),
    "identifier in capitals": ("Set by LC_ALL", "Set by LC_ALL"),
    "identifier in a sentence": ("Please check the file_uploads setting.", "Please check the file_uploads setting."),
    "two identifiers": ("from a_b to c_d", "from a_b to c_d"),
    "literal underscore": ("Insert __ here", "Insert __ here"),
    "tilde": ("E~xit and Save", "Exit and Save"),
    "home folder": ("In ~/Documents", "In ~/Documents"),
    "ampersand": ("&Open File", "Open File"),
    "ampersand between capitals": ("Some Q&A here", "Some Q&A here"),
    "lone ampersand": ("Fonts & Colours", "Fonts & Colours"),
    "entity": ("Fonts &amp; Colours", "Fonts & Colours"),
    "accelerator in brackets": ("打开文件(_O)", "打开文件"),
    "accelerator in brackets, Qt": ("打开文件 (&O)...", "打开文件..."),
    "format specifiers": ("Copied %1$s to %s: %d%%", "Copied %1$s to %s: %d%%"),
    "pango": ('<b>Bold</b> and <span size="x">big</span>', "Bold and big"),
    "no-break space": ("10\u00a0GB free\u202fspace", "10 GB free space"),
    "direction marks stay": ("\u200fabc\u200e \u2067def\u2069", "\u200fabc\u200e \u2067def\u2069"),
    "soft hyphen and zero-width space stay": ("trans\u00adla\u200btion", "trans\u00adla\u200btion"),
    "line breaks": ("one\ntwo\t three\r\n", "one two three"),
    "control characters are left to be counted": ("one\x07two\x0bthree\ufeff", "one\x07two three\ufeff"),
    "zero-width joiner stays": ("क्\u200dष", "क्\u200dष"),
}


@pytest.mark.parametrize(("text", "expected"), GETTEXT.values(), ids=GETTEXT.keys())
def test_gettext(text: str, expected: str) -> None:
    assert clean_gettext(text) == expected


@pytest.mark.parametrize("text", [text for text, _ in GETTEXT.values()])
def test_cleaning_gettext_twice_changes_nothing_more(text: str) -> None:
    assert clean_gettext(clean_gettext(text)) == clean_gettext(text)


def test_bar_context_goes_only_where_the_translation_has_none() -> None:
    assert strip_bar_context("Color name|Light Red", "Merah Muda") == "Light Red"
    assert strip_bar_context("README|ISO-8859-1", "README|ISO-8859-1") == "README|ISO-8859-1"
    assert strip_bar_context("a | b", "c") == "a | b"
    assert strip_bar_context("No bar", "c") == "No bar"


def test_paragraphs_split_at_blank_lines_and_wiki_lists() -> None:
    text = "One\ntwo.\n\nThree.\n* item\n* other\n"
    assert paragraphs(text, list_items=False) == ["One\ntwo.", "Three.\n* item\n* other\n"]
    assert paragraphs(text, list_items=True) == ["One\ntwo.", "Three.", "* item", "* other\n"]
    assert paragraphs("\n\n", list_items=True) == []
