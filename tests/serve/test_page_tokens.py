"""What each token took, on the page: asked for by a button, by keyboard too, legible, and never for a dense model."""

from __future__ import annotations

from typing import Any

from smoe_ds.analysis.token_paths import sentence_paths
from smoe_ds.decode.translator import Translator
from tests.helpers.browser import LOW_CONTRAST, needs_browser
from tests.helpers.served import Service
from tests.helpers.served_page import picture, translate
from tests.serve.conftest import TOKEN

pytestmark = needs_browser

HOSTILE = "<script>document.title='hacked'</script> <img src=x onerror=\"document.title='hacked'\"> house & snow."


def show(page: Any, sentence: int = 1, of: int = 1) -> Any:
    """The view of a sentence, once it has been asked for and is there."""
    page.click("#view-show")
    page.wait_for_selector(f"#view-status:has-text('{'Shown' if of == 1 else f'Sentence {sentence} is shown'} below')")
    return page.locator("#view .token-view")


def check_view(page: Any) -> None:
    assert page.evaluate(LOW_CONTRAST) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_tokens_are_shown_on_demand(page: Any, service: Service, translator: Translator) -> None:
    """Translating costs nothing more; any sentence can be chosen; a new translation takes the view away."""
    asked = []
    page.on("request", lambda one: asked.append(one.url) if one.url.endswith("/tokens") else None)
    assert page.locator("#token-view").is_hidden()
    page.select_option("#from", "eng")
    page.select_option("#to", "nso")
    translate(page, "The house sees snow. My old friend opens the blue door.")
    assert page.locator("#token-view").is_visible() and page.locator("#view").inner_html() == "" and asked == []
    check_view(page)
    picture(page, "tokens-before")
    for number, sentence in enumerate(("The house sees snow.", "My old friend opens the blue door."), start=1):
        page.select_option("#view-sentence", str(number - 1))
        view = show(page, number, of=2)
        translation = service.translate(sentence).json["text"]
        paths = sentence_paths(translator, "eng-nso", sentence)
        assert view.locator("dd").all_text_contents() == [sentence, translation]
        capacity = [format(sum(one) / len(one), ".2f") for one in capacities(paths)]
        assert view.locator(".tv-rc").all_text_contents() == capacity
    assert len(asked) == 2
    check_view(page)
    picture(page, "tokens")
    translate(page, "Two birds.")
    assert page.locator("#view").inner_html() == "" and page.text_content("#view-status") == ""
    assert page.locator("#view-choice").is_hidden() and page.locator("#view-show").is_visible()


def capacities(paths: Any) -> list[tuple[float, ...]]:
    """Of each token, encoder first: requested capacity in the blocks of its side."""
    sides = [[b.requested_capacities for b in paths.blocks if b.side == side] for side in ("encoder", "decoder")]
    return [one for blocks in sides for one in zip(*blocks, strict=True)]


def test_by_keyboard_alone(page: Any) -> None:
    translate(page, "Two birds. My hat!")
    page.locator("#copy").focus()
    reached = []
    for _ in range(2):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached == ["view-sentence", "view-show"]
    page.keyboard.press("Enter")
    page.wait_for_selector("#view-status:has-text('Sentence 1 is shown below')")
    view = page.locator(".token-view")
    assert page.evaluate("document.activeElement.id") == "view-show"
    page.keyboard.press("Tab")  # Back is disabled at the first step
    assert page.evaluate("document.activeElement.className") == "tv-next"
    for _ in range(3):
        page.keyboard.press("Enter")
        check_view(page)
    assert "stratum 1 of 0 to" in view.locator(".tv-caption").inner_text()
    for _ in range(3):
        page.keyboard.press("Tab")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert page.evaluate("document.activeElement.className").startswith("tv-token")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)  # it has scrolled under the mouse, which chooses nothing
    assert "position 2" in view.locator(".tv-detail").inner_text()
    check_view(page)
    picture(page, "tokens-path")
    page.keyboard.press("Escape")
    assert view.locator(".tv-detail").is_hidden()


def test_markup_in_a_text_is_text(page: Any) -> None:
    translate(page, HOSTILE)
    sentences = page.locator("#view-sentence option").count()
    for number in range(sentences):
        page.select_option("#view-sentence", str(number), force=True)
        view = show(page, number + 1, of=sentences)
        source = page.locator("#sentence-list .source").nth(number).text_content()
        assert view.locator("dd").first.text_content() == source
    assert page.title() == "Translate – smoe-ds serve"
    assert page.locator("main script, main img").count() == 0
    page.locator("#view button.tv-token").nth(2).hover()
    assert "position 3" in page.locator("#view .tv-detail").inner_text()
    assert page.title() == "Translate – smoe-ds serve" and page.locator("main img").count() == 0
    check_view(page)


def test_long_sentences_and_right_to_left(page: Any) -> None:
    for name, text in (("long", "house " * 90 + "snow."), ("script", "مرحبا بالعالم 你好 Supercalifragilistic" * 3)):
        translate(page, text)
        show(page)
        check_view(page)
        picture(page, f"tokens-{name}")


def test_the_translation_is_that_of_the_page(page: Any, translator: Translator) -> None:
    """Also where the model would now write another one."""
    sentence = {"source": "Two birds.", "translations": [{"text": "ka lo mi", "score": -1.0}], "truncated": False}
    answer = {"text": "ka lo mi", "to": "nso", "sentences": [sentence], "warnings": []}
    page.select_option("#to", "nso")
    page.route("**/translate", lambda route: route.fulfill(json=answer))
    translate(page, "Two birds.")
    view = show(page)
    assert view.locator("dd").all_text_contents() == ["Two birds.", "ka lo mi"]
    tokens = sentence_paths(translator, "eng-nso", "Two birds.", "ka lo mi").tokens["decoder"]
    assert view.locator('[data-side="decoder"] bdi').all_text_contents() == list(tokens)


def test_a_mistake_is_shown_and_an_answer_that_comes_late_is_not(page: Any) -> None:
    translate(page, "Two birds.")
    page.route("**/tokens", lambda route: route.fulfill(status=422, json={"detail": "text: <b>no</b>"}))
    page.click("#view-show")
    page.wait_for_selector("#view-problem:has-text('text: <b>no</b>')")
    check_view(page)
    page.unroute("**/tokens")
    waiting: list[Any] = []
    page.route("**/tokens", lambda route: waiting.append(route))
    page.click("#view-show")
    page.wait_for_function("document.getElementById('view-status').textContent.startsWith('Following')")
    assert page.text_content("#view-problem") == ""
    page.click("#view-show")
    translate(page, "My hat!")
    assert len(waiting) == 1, "asked once for the same sentence"
    with page.expect_response("**/tokens"):
        waiting[0].continue_()
    page.unroute("**/tokens")
    page.wait_for_timeout(200)
    assert page.locator("#view").inner_html() == "" and page.text_content("#view-status") == ""
    assert show(page).locator("dd").first.text_content() == "My hat!"


def test_a_dense_model_has_no_such_section(browser: Any, dense: Service) -> None:
    page = browser.new_page(base_url=dense.url)
    page.goto("/")
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector("#to option", state="attached")
    translate(page, "Two birds.")
    assert page.locator("#sentences").is_visible() and page.locator("#token-view").is_hidden()
    page.close()
