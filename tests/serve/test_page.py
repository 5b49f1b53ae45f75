"""The page in a real browser, on a desk and on a phone: it works by keyboard, is legible, and loads nothing from afar.

Screenshots go to the folder that ``SCREENSHOTS`` names, to be looked at.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.helpers.browser import needs_browser
from tests.helpers.served import Service
from tests.helpers.served_page import check_legible, picture, translate

pytestmark = needs_browser

HOSTILE = "<script>document.title='hacked'</script> <img src=x onerror=\"document.title='hacked'\"> house & snow."
SCRIPTS = (
    "مرحبا بالعالم. كيف حالك؟\nשלום עולם.\n你好。再见。\n私は学生です。\nयह एक वाक्य है। यह दूसरा है।\nThe house sees snow."
)


def test_a_text_is_translated(page: Any, service: Service) -> None:
    picture(page, "empty")
    check_legible(page)
    page.select_option("#from", "eng")
    page.select_option("#to", "nso")
    page.select_option("#n-best", "3")
    text = "The house sees snow. Two birds.\n\nMy hat!"
    translate(page, text)
    expected = service.translate(text, "nso", n_best=3, **{"from": "eng"}).json
    assert page.text_content("#translation") == expected["text"]
    assert page.locator("#sentence-list > li").count() == 3
    shown = page.locator("#sentence-list .answer").all_text_contents()
    assert shown == [one["text"] for sentence in expected["sentences"] for one in sentence["translations"]]
    assert "Northern Sotho (nso)" in page.text_content("#to")
    assert page.text_content("#count") == "40 of 20,000 characters"
    check_legible(page)
    picture(page, "translated")


def test_a_model_that_reads_the_language_of_the_text(browser: Any, reading: Service) -> None:
    """There is always a language, and at first a trained direction: the first click translates."""
    page = browser.new_page(base_url=reading.url)
    page.goto("/")
    page.wait_for_selector("#to option", state="attached")
    assert page.locator("#from option").evaluate_all("all => all.map((one) => one.value)") == ["cat", "eng", "nso"]
    chosen = page.input_value("#from"), page.input_value("#to")
    assert "-".join(chosen) == reading.ask("GET", "/languages").json["directions"][0]
    translate(page, "Two birds.")
    expected = reading.translate("Two birds.", chosen[1], **{"from": chosen[0]}).json
    assert page.text_content("#translation") == expected["text"] and page.text_content("#warnings") == ""
    picture(page, "reading")
    page.close()


def test_by_keyboard_alone(page: Any) -> None:
    assert page.evaluate("document.activeElement.id") == "text"
    page.keyboard.type("Two birds.")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#status:text-matches('sentences? in [0-9.]+ s')")
    page.locator("nav a").focus()
    reached = []
    for _ in range(7):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", reached
    assert reached == ["from", "to", "n-best", "text", "translate", "translation", "copy"]


def test_markup_in_a_text_is_text(page: Any) -> None:
    translate(page, HOSTILE)
    assert page.title() == "Translate – smoe-ds serve"
    assert page.locator("main script, main img").count() == 0
    assert "".join(page.locator("#sentence-list .source").all_text_contents()).startswith("<script>document.title")
    picture(page, "markup")
    known = {"sources": [HOSTILE], "targets": [HOSTILE], "model": HOSTILE, "n_best": 1, "max_characters": 9}
    page.route("**/languages", lambda route: route.fulfill(json=known))
    page.reload()
    page.wait_for_selector("#to option", state="attached")
    assert page.text_content("#model") == page.text_content("#to") == HOSTILE
    assert page.title() == "Translate – smoe-ds serve" and page.locator("main script, img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    picture(page, "names")


def test_right_to_left_and_east_asian_text(page: Any) -> None:
    """The model of these tests writes Latin letters: so the answer says what it would if it knew the others."""
    lines = SCRIPTS.split("\n")
    answer = {
        "text": SCRIPTS,
        "to": "eng",
        "sentences": [
            {"source": line, "translations": [{"text": line, "score": -1.0}], "truncated": False} for line in lines
        ],
        "warnings": [],
    }
    page.route("**/translate", lambda route: route.fulfill(json=answer))
    translate(page, SCRIPTS)
    assert page.evaluate("getComputedStyle(document.getElementById('translation')).writingMode") == "horizontal-tb"
    # Where the first letter of a line is: at the right of an Arabic or Hebrew one, at the left of others.
    places = page.evaluate(
        """() => [...document.querySelectorAll("#sentence-list .source")].map((line) => {
          const range = document.createRange();
          range.setStart(line.firstChild, 0);
          range.setEnd(line.firstChild, 1);
          const [first, whole] = [range.getBoundingClientRect(), line.getBoundingClientRect()];
          return (first.left + first.right) / 2 > (whole.left + whole.right) / 2;
        })"""
    )
    assert places == [True, True, False, False, False, False]
    picture(page, "scripts")


def test_mistakes_are_shown(page: Any) -> None:
    page.click("#translate")
    page.wait_for_selector("#problem:has-text('text')")
    assert page.text_content("#problem") == "text: is empty; send at least one visible character"
    page.fill("#text", "a" * 20_001)
    page.click("#translate")
    page.wait_for_selector("#problem:has-text('20001')")
    assert page.locator("#count.over").count() == 1
    check_legible(page)
    picture(page, "mistake")
    translate(page, "house " * 300 + "snow.")
    assert "only its beginning is translated" in page.text_content("#warnings")
    assert page.text_content("#problem") == ""
    picture(page, "long")


def test_another_part_can_hear_of_a_translation(page: Any) -> None:
    page.evaluate("document.addEventListener('translated', (event) => { window.heard = event.detail; })")
    translate(page, "Two birds.")
    heard = page.evaluate("window.heard")
    assert heard["request"]["text"] == heard["answer"]["sentences"][0]["source"] == "Two birds."


def test_the_description_of_the_api(page: Any) -> None:
    page.click("nav a")
    assert page.text_content("h1") == "API"
    check_legible(page)
    picture(page, "docs")
    for link in page.locator("main a").all():
        assert page.locator(re.sub("^.*#", "#", link.get_attribute("href"))).count() == 1


def test_a_token_is_asked_for(page: Any) -> None:
    """A service with a token refuses /languages until it comes."""
    refused = json.dumps({"detail": "needs the service's token"})

    def answer(route: Any) -> None:
        if route.request.headers.get("authorization") == "Bearer 0123456789abcdef":
            route.continue_()
        else:
            route.fulfill(status=401, body=refused, content_type="application/json")

    page.route("**/languages", answer)
    page.reload()
    page.wait_for_selector("#token-form:not([hidden])")
    page.keyboard.type("a wrong one")
    page.keyboard.press("Enter")
    page.wait_for_selector("#token-problem:has-text('That is not the token.')")
    check_legible(page)
    picture(page, "token")
    page.keyboard.type("0123456789abcdef")
    page.keyboard.press("Enter")
    page.wait_for_selector("#token-form", state="hidden")
    translate(page, "Two birds.")
