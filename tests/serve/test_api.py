"""The API of a running service: translations as the command line gives them, every mistake answered in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smoe_ds.cli.main import main
from smoe_ds.decode.load import load_translator
from tests.helpers.served import Service

pytest.importorskip("fastapi", reason="the extra serve is not installed")

LINES = [
    "The house sees snow.",
    "",
    "My old friend opens the blue door.",
    "word" + " word" * 90,
    " ",
    "Two birds!\x00\u2028",
]


def command_line(run: Path, text: str, folder: Path, *arguments: str) -> list[str]:
    (folder / "in").write_text(text, encoding="utf-8", newline="")
    files = ["--input", str(folder / "in"), "--output", str(folder / "out")]
    assert main(["translate", str(run), "--to", "nso", "--device", "cpu", *files, *arguments]) == 0
    return (folder / "out").read_text(encoding="utf-8").split("\n")[:-1]


def test_lines_are_translated_as_by_the_command(service: Service, run_dir: Path, tmp_path: Path) -> None:
    reply = service.translate("\n".join(LINES), split=False)
    assert reply.status == 200
    *lines, last = command_line(run_dir, "\n".join(LINES), tmp_path)
    assert reply.json["text"].split("\n") == [*lines[:4], " ", f"{last}\u2028"], "spaces of a line stay"
    [warning] = reply.json["warnings"]
    assert warning.startswith("sentence 3: has ") and "the model takes 64" in warning
    assert [sentence["truncated"] for sentence in reply.json["sentences"]] == [False, False, True, False]


def test_n_best_is_that_of_the_command(service: Service, run_dir: Path, tmp_path: Path) -> None:
    rows = [row.split(" ||| ") for row in command_line(run_dir, LINES[2], tmp_path, "--n-best", "3")]
    [sentence] = service.translate(LINES[2], n_best=3).json["sentences"]
    assert [one["text"] for one in sentence["translations"]] == [row[1] for row in rows]
    assert [one["score"] for one in sentence["translations"]] == pytest.approx([float(row[2]) for row in rows])


def test_a_text_keeps_its_paragraphs(service: Service, run_dir: Path) -> None:
    text = "The house sees snow. Two birds.\r\n\r\n  My hat!\n"
    sentences = ["The house sees snow.", "Two birds.", "My hat!"]
    one, two, three = (best.text for best in load_translator(run_dir, device="cpu").translate(sentences, "cat"))
    reply = service.translate(text, "cat", **{"from": "eng"})
    assert reply.json["text"] == f"{one} {two}\r\n\r\n  {three}\n"
    assert [sentence["source"] for sentence in reply.json["sentences"]] == sentences
    assert reply.json["warnings"] == []


def test_an_untrained_direction_is_said(service: Service) -> None:
    reply = service.translate("Two birds.", "nso", **{"from": "cat"})
    assert reply.json["warnings"] == ["the model was not trained on cat-nso"]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"", 422, "the body: field required"),
        (b"Two birds.", 400, "the body is no JSON: "),
        (b"\xff\xfe{}", 400, ""),
        (b"[" * 50_000, 400, ""),
        ([], 422, "the body: "),
        ({"text": "Two birds."}, 422, "to: field required"),
        ({"text": 1, "to": "nso"}, 422, "text: input should be a valid string"),
        ({"text": "a", "to": "nso", "beam": 3}, 422, "beam: unknown field; known: text, to, from, n_best, split"),
        ({"text": "a", "to": "xyz"}, 422, "to: unknown language 'xyz'; the model knows: cat, eng, nso"),
        ({"text": "a", "to": "<script>\n"}, 422, "to: unknown language '<script>\\n'; the model knows: "),
        ({"text": "a", "to": "x" * 9999}, 422, f"to: unknown language '{'x' * 40}...'; the model knows: "),
        ({"text": "a", "to": "nso", "from": "xyz"}, 422, "from: unknown language 'xyz'; the model knows: "),
        ({"text": "a", "to": "nso", "n_best": 6}, 422, "n_best: is 6, but the beam size is 5; ask for at most"),
        ({"text": "a", "to": "nso", "n_best": 0}, 422, "n_best: input should be greater than or equal to 1"),
        ({"text": "", "to": "nso"}, 422, "text: is empty; send at least one visible character"),
        ({"text": " \n\u200b\x00\t", "to": "nso"}, 422, "text: is empty; send at least one visible character"),
        ({"text": "a" * 100_000, "to": "nso"}, 413, "text: has 100000 characters, the service takes 20000; "),
        ({"text": "a" * 300_000, "to": "nso"}, 413, "the body is longer than 244096 bytes; send at most 20000 "),
        ({"text": "a" * 9_000_000, "to": "nso"}, 413, "the body is longer than 244096 bytes; send at most 20000 "),
        ({"text": "A b.\n" * 501, "to": "nso"}, 413, "text: has 501 sentences, the service takes 500; send it in"),
    ],
)
def test_mistakes_are_named(service: Service, body: Any, status: int, detail: str) -> None:
    reply = service.ask("POST", "/translate", body)
    assert reply.status == status and reply.detail.startswith(detail)
    assert "\n" not in reply.detail and reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "detail"),
    [
        ("GET", "/nowhere", {}, 404, "there is nothing here; /docs describes the API"),
        ("GET", "/translate", {}, 405, "GET is not possible here"),
        ("POST", "/translate", {}, 415, "expected a JSON body"),
        ("POST", "/translate", {"Content-Type": "text/plain", "Content-Length": "0"}, 415, "expected a JSON body"),
        ("GET", "/languages", {"Host": "evil.example"}, 400, "the Host header names another host"),
        ("GET", "/../../etc/passwd", {}, 404, "there is nothing here"),
    ],
)
def test_strange_requests_are_refused(
    service: Service, method: str, path: str, headers: dict[str, str], status: int, detail: str
) -> None:
    reply = service.ask(method, path, None, headers)
    assert reply.status == status and reply.detail.startswith(detail)


@pytest.mark.parametrize("text", ["\ud83d", "lone \udc00 half", "<2cat> </s>", "word" * 4000, "\U0001f600" * 20_000])
def test_strange_texts_are_answered(service: Service, text: str) -> None:
    reply = service.translate(text)
    assert reply.status in (200, 422) and reply.json
    assert reply.status == 200 or "text: " in reply.detail


def test_what_can_be_asked_for(service: Service) -> None:
    known = service.ask("GET", "/languages").json
    assert known["targets"] == known["sources"] == ["cat", "eng", "nso"]
    assert known["directions"] == ["cat-eng", "eng-cat", "eng-nso", "nso-eng"]
    assert (known["n_best"], known["max_characters"], known["max_sentences"]) == (5, 20_000, 500)
    assert (known["has_strata"], known["reads_source"]) == (True, False)
    assert known["model"] == "run, step 1"


def test_health_and_metrics(service: Service) -> None:
    name = 'smoe_requests_total{path="/translate",status="200"}'
    before = service.metric(name), service.metric("smoe_sentences_total")
    service.translate("The house sees snow. Two birds.")
    assert (service.metric(name), service.metric("smoe_sentences_total")) == (before[0] + 1, before[1] + 2)
    assert service.metric("smoe_workers") == 1
    assert service.metric("smoe_requests_in_flight") == service.metric("smoe_sentences_waiting") == 0
    health = service.ask("GET", "/health")
    assert (health.status, health.json) == (200, {"status": "ok", "workers": 1, "waiting": 0})


def test_the_api_describes_itself_without_a_network(service: Service) -> None:
    description = service.ask("GET", "/openapi.json").json
    assert set(description["paths"]) == {"/translate", "/tokens", "/languages", "/health", "/metrics"}
    assert set(description["paths"]["/translate"]["post"]["responses"]) >= {"200", "413", "422", "429", "503", "504"}
    page = service.ask("GET", "/docs").body.decode()
    assert all(
        f"<code>{method}</code>" in page
        for method in ("POST /translate", "POST /tokens", "GET /languages", "GET /health")
    )
    assert all(f'id="{name}"' in page for name in description["components"]["schemas"])
    assert "//" not in page.replace("http://localhost:8000", "")


def test_examples_of_the_description_are_answered(service: Service) -> None:
    description = service.ask("GET", "/openapi.json").json
    schemas = description["components"]["schemas"]
    for path, name in (("/translate", "Translate"), ("/tokens", "Tokens")):
        [example] = schemas[f"{name}Request"]["examples"]
        reply = service.ask("POST", path, example)
        assert reply.status == 200
        assert json.loads(reply.body).keys() == schemas[f"{name}Answer"]["properties"].keys()


def test_pages_may_load_nothing_from_elsewhere(service: Service) -> None:
    for path in ("/", "/docs", "/page.js", "/token_view.js", "/languages"):
        headers = service.ask("GET", path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
        assert headers["x-content-type-options"] == "nosniff"


def test_a_model_that_reads_the_language_of_its_input_is_told_it(reading_run: Path, reading: Service) -> None:
    translator = load_translator(reading_run, device="cpu")
    text = "Two birds sing."
    assert reading.ask("GET", "/languages").json["reads_source"] is True
    for source in ("eng", "cat"):
        answer = reading.ask("POST", "/translate", {"text": text, "to": "nso", "from": source}).json
        assert answer["text"] == translator.translate([text], "nso", source)[0].text
    for path in ("/translate", "/tokens"):
        reply = reading.ask("POST", path, {"text": text, "to": "nso"})
        assert (reply.status, reply.detail) == (
            422,
            "from: is missing, but the model reads the language of its input; name it",
        )
    assert reading.ask("POST", "/tokens", {"text": text, "to": "nso", "from": "eng"}).status == 200
