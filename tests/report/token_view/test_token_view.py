"""The token view: what its HTML says is what the tokens did, text is escaped, and it works in a browser."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from smoe_ds.analysis.token_paths import BlockPaths, Pass, SentencePaths, sentence_paths
from smoe_ds.decode.translator import Translator
from smoe_ds.report.token_view import SCRIPT, STYLE, token_view
from smoe_ds.report.token_view.view import LEVELS, level, right_to_left
from tests.helpers.browser import DESKTOP, LOW_CONTRAST, PHONE, needs_browser, opened

SOURCE = "<script>alert(1)</script> \"the\" 'house' & my </section> dog"


class Reader(HTMLParser):
    """Elements of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, Any]]] = []
        self.words = ""
        self.feed(str(html))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def paths(translator: Translator) -> SentencePaths:
    return sentence_paths(translator, "eng-nso", SOURCE, "ka lo <b>mi</b>", "<i>ga</i>")


@pytest.fixture(scope="module")
def page(paths: SentencePaths, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence from left to right, one from right to left, and one of a dense model."""
    path = (Pass(0, (1,), (1.0,)), Pass(2, (4, 5), (0.75, 0.25)))
    arabic = ("<2eng>", "▁مرحبا", "▁بالعالم", "▁你好", "世界", "</s>")
    blocks = tuple(
        BlockPaths(f"{side}.layers.{number}.ffn", (2, 2, 2), heads, ((path[:1], path)[:heads],) * (6, 2)[d])
        for d, side in enumerate(("encoder", "decoder"))
        for number, heads in ((1, 1), (3, 2))
    )
    tokens = {"encoder": arabic, "decoder": ("<2eng>", "▁x\n")}
    other = SentencePaths("ara-eng", "مرحبا بالعالم 你好世界", "x", None, tokens, blocks)
    dense = SentencePaths("ara-eng", "مرحبا", "x", None, tokens, (), cut=True)
    views = "".join(str(token_view(one)) for one in (paths, other, dense))
    file = tmp_path_factory.mktemp("page") / "page.html"
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>x</title><style>{STYLE:s}</style>'
    file.write_text(f"{head}<body>{views}<script>{SCRIPT:s}</script>", encoding="utf-8")
    return file


def test_tokens_carry_what_they_did(paths: SentencePaths) -> None:
    page = Reader(token_view(paths))
    found = [json.loads(attributes["data-token"]) for _, attributes in page.elements if "data-token" in attributes]
    encoder, decoder = ([block for block in paths.blocks if block.side == side] for side in ("encoder", "decoder"))
    number = len(paths.tokens["encoder"])
    assert len(found) == number + len(paths.tokens["decoder"])
    for blocks, tokens in ((encoder, found[:number]), (decoder, found[number:])):
        for t, token in enumerate(tokens):
            own = [block.requested_capacities[t] for block in blocks]
            assert token["rc"] == pytest.approx([sum(own) / len(own), *own], abs=0.005)
            for block, slices in zip(blocks, token["paths"], strict=True):
                steps = [[[one[0], [e for e, _ in one[1]]] for one in path] for path in slices]
                assert steps == [[[one.stratum, list(one.experts)] for one in path] for path in block.tokens[t]]


def test_text_is_escaped(paths: SentencePaths) -> None:
    page = Reader(token_view(paths))
    assert {tag for tag, _ in page.elements} <= {
        *("section", "dl", "div", "dt", "dd", "button", "label", "select", "span", "i", "p", "h4", "small", "ol", "li"),
        *("bdi", "noscript"),
    }
    for text in (SOURCE, paths.translation, "<i>ga</i>", *paths.tokens["encoder"]):
        assert text in page.words


def test_levels_and_directions() -> None:
    assert [level(rc, 4) for rc in (1, 2.5, 4)] == [0, (LEVELS - 1) // 2, LEVELS - 1]
    assert level(1, 1) == 0
    assert [right_to_left(text) for text in ("abc", "123 مرحبا", "שלום abc", "你好", "1 2")] == [0, 1, 1, 0, 0]


@needs_browser
@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_stepping_by_keyboard(page: Path, paths: SentencePaths, size: tuple[int, int], scheme: str) -> None:
    with opened(page, size, color_scheme=scheme) as shown:
        view = shown.locator(".token-view").first
        assert view.locator("option").count() == 1 + sum(1 + len(block.strata) for block in paths.blocks)
        assert shown.evaluate(LOW_CONTRAST) == []
        view.locator(".tv-next").focus()
        for _ in range(2):
            shown.keyboard.press("Enter")
        first = paths.blocks[0]
        number = len(paths.tokens["encoder"])
        assert f"{first.name}, stratum 0" in view.locator(".tv-caption").inner_text()
        assert f"of {number} tokens, {number} passing it" in view.locator(".tv-caption").inner_text()
        shown.keyboard.press("Enter")
        here = sum(any(one.stratum == 1 for one in slices[0]) for slices in first.tokens)
        assert f"of {number} tokens, {here} passing it" in view.locator(".tv-caption").inner_text()
        assert view.locator(".tv-shown .tv-away").count() == number - here
        tokens = view.locator(".tv-shown button.tv-token")
        tokens.first.focus()
        shown.keyboard.press("ArrowRight")
        detail = view.locator(".tv-detail")
        experts = first.tokens[1][0][0].experts
        assert "position 2" in detail.inner_text()
        assert f"0: {experts[0]} (" in detail.inner_text()
        assert shown.evaluate(LOW_CONTRAST) == []
        shown.keyboard.press("Escape")
        assert detail.is_hidden()
        tokens.nth(3).hover()
        assert "position 4" in detail.inner_text()


@needs_browser
def test_right_to_left_and_play(page: Path) -> None:
    with opened(page) as shown:
        view = shown.locator(".token-view").nth(1)
        tokens = view.locator('[data-side="encoder"] button.tv-token')
        places = [tokens.nth(n).bounding_box() for n in range(2)]
        assert places[0] and places[1] and places[0]["x"] > places[1]["x"]
        tokens.first.focus()
        shown.keyboard.press("ArrowLeft")
        assert "position 2" in view.locator(".tv-detail").inner_text()
        view.locator("select").select_option(label="encoder.layers.3.ffn")
        assert "1/2" in tokens.first.inner_text()
        view.locator("select").select_option(label="decoder.layers.3.ffn, stratum 1")
        view.locator(".tv-play").click()
        view.locator(".tv-play:text-is('Play')").wait_for(timeout=60_000)  # it has come to the end
        assert "decoder.layers.3.ffn, stratum 2" in view.locator(".tv-caption").inner_text()
