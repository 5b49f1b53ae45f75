"""What each token took, over sockets: the token view of the same sentence; mistakes in one line; no strata, no view."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from smoe_ds.analysis.token_paths import sentence_paths
from smoe_ds.decode.translator import Translator
from smoe_ds.report.token_view import SCRIPT, STYLE, token_view
from tests.helpers.served import DEADLINE, Reply, Service
from tests.serve.conftest import TOKEN

pytest.importorskip("fastapi", reason="the extra serve is not installed")

LONG = "house " * 90 + "snow."


@pytest.mark.parametrize(
    ("sentence", "translation"),
    [
        ("The house sees snow.", None),
        ("My old friend opens the blue door.", "ka lo mi"),
        ("<script>alert(1)</script> & \"my\" 'house'", "</section><b>ga</b>"),
        ("Two birds.", ""),
        (LONG, None),
        ("Two birds.", LONG),
    ],
)
def test_it_is_the_view_of_that_sentence(
    service: Service, translator: Translator, sentence: str, translation: str | None
) -> None:
    paths = sentence_paths(translator, "eng-nso", sentence, translation)
    body = {"text": f" {sentence}\n", "from": "eng", "to": "nso", "translation": translation}
    reply = service.ask("POST", "/tokens", body)
    assert reply.status == 200
    assert reply.json == {
        "source": sentence,
        "to": "nso",
        "translation": paths.translation,
        "truncated": LONG in (sentence, translation),
        "html": str(token_view(paths)),
    }
    assert len(paths.blocks) > 1 and "<script" not in reply.json["html"] and "<b>" not in reply.json["html"]


def test_a_translation_that_is_not_given_is_that_of_translate(service: Service) -> None:
    translated = service.translate("The house sees snow.").json["text"]
    followed = service.ask("POST", "/tokens", {"text": "The house sees snow.", "to": "nso"}).json
    assert followed["translation"] == translated
    assert "language not given" in followed["html"] and ">und<" not in followed["html"]


def test_among_many_translations(service: Service, translator: Translator) -> None:
    """Both kinds of requests at once: everybody gets their own answer."""
    words = [f"{word} sees snow." for word in ("house", "friend", "bird", "door", "bread", "brother")]
    views = [str(token_view(sentence_paths(translator, "eng-cat", text))) for text in words]
    texts = [translator.translate([text], "cat")[0].text for text in words]

    async def run() -> list[Reply]:
        body: list[dict[str, Any]] = [{"text": text, "from": "eng", "to": "cat"} for text in words]
        asked = [service.send("POST", path, one) for one in body for path in ("/tokens", "/translate")]
        return await asyncio.gather(*asked)

    replies = asyncio.run(run())
    assert [reply.status for reply in replies] == [200] * 12
    assert [reply.json["html"] for reply in replies[::2]] == views
    assert [reply.json["text"] for reply in replies[1::2]] == texts
    assert service.metric("smoe_requests_in_flight") == 0
    assert service.metric('smoe_requests_total{path="/tokens",status="200"}') >= 6


def test_a_killed_worker_is_replaced_and_its_requests_are_answered(service: Service) -> None:
    body = {"text": "My old friend opens the blue door.", "from": "eng", "to": "nso"}
    expected = service.ask("POST", "/tokens", body).json
    [worker] = service.workers

    async def run() -> list[Reply]:
        asking = [asyncio.create_task(service.send("POST", "/tokens", body)) for _ in range(12)]
        await service.metric_until("smoe_sentences_waiting", bool)
        worker.kill()
        return await asyncio.gather(*asking)

    assert [reply.json for reply in asyncio.run(asyncio.wait_for(run(), DEADLINE))] == [expected] * 12
    assert [one.pid for one in service.workers] != [worker.pid]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"Two birds.", 400, "the body is no JSON: "),
        ({"text": "Two birds."}, 422, "to: field required"),
        ({"text": "a", "to": "nso", "n_best": 3}, 422, "n_best: unknown field; known: text, to, from, translation"),
        ({"text": "a", "to": "nso", "translation": 1}, 422, "translation: input should be a valid string"),
        ({"text": "a", "to": "xyz"}, 422, "to: unknown language 'xyz'; the model knows: cat, eng, nso"),
        ({"text": "a", "to": "nso", "from": "und"}, 422, "from: unknown language 'und'; the model knows: "),
        ({"text": " \n\u200b\x00", "to": "nso"}, 422, "text: is empty; send at least one visible character"),
        ({"text": "Two birds.\n\nMy hat!", "to": "nso"}, 422, "text: has 2 lines; send one sentence, as the answer"),
        ({"text": "a" * 20_001, "to": "nso"}, 413, "text: has 20001 characters, the service takes 20000; "),
        ({"text": "a", "to": "nso", "translation": "b" * 20_001}, 413, "translation: has 20001 characters, "),
        ({"text": "a" * 300_000, "to": "nso"}, 413, "the body is longer than 244096 bytes; send at most 20000 "),
    ],
)
def test_mistakes_are_named(service: Service, body: Any, status: int, detail: str) -> None:
    reply = service.ask("POST", "/tokens", body)
    assert reply.status == status and reply.detail.startswith(detail)
    assert "\n" not in reply.detail and reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize("text", ["\ud83d", "lone \udc00 half", "<2cat> </s>", "word" * 4000, "\U0001f600" * 20_000])
def test_strange_texts_are_answered(service: Service, text: str) -> None:
    reply = service.ask("POST", "/tokens", {"text": text, "to": "nso"})
    assert reply.status == 200 or (reply.status == 422 and "text: " in reply.detail)
    beside = service.ask("POST", "/tokens", {"text": "Two birds.", "to": "nso", "translation": text})
    assert beside.status == 200 or (beside.status == 422 and "translation: " in beside.detail)


def test_a_dense_model_says_that_it_has_no_strata(dense: Service) -> None:
    body, token = {"text": "Two birds.", "to": "nso"}, {"Authorization": f"Bearer {TOKEN}"}
    assert dense.ask("POST", "/tokens", body).status == 401
    reply = dense.ask("POST", "/tokens", body, token)
    assert reply.status == 422
    assert reply.detail == "the model is dense: it has no strata that tokens could pass; use /translate"
    assert dense.ask("GET", "/languages", headers=token).json["has_strata"] is False
    assert dense.ask("POST", "/translate", body, token).status == 200


def test_what_a_view_needs_is_served(service: Service) -> None:
    assert service.ask("GET", "/token_view.css").body.decode() == STYLE
    assert service.ask("GET", "/token_view.js").body.decode() == SCRIPT
