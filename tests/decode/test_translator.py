"""Text in, text out: order, empty and over-long lines, language tokens, scores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.hypothesis import Hypothesis
from smoe_ds.decode.load import load_translator
from smoe_ds.decode.translator import Translator
from smoe_ds.errors import DataError
from tests.helpers.prepared import sentence
from tests.helpers.random_run import random_run

LINES = [sentence(number) for number in range(0, 120, 5)]
LINES[3], LINES[10], LINES[17] = "", " \t ", f"{sentence(7)} " * 12


def test_every_line_is_answered_in_its_place(translator: Translator) -> None:
    together = translator.translate(LINES, "nso")
    assert len(together) == len(LINES)
    for line, answer in zip(LINES, together, strict=True):
        [alone] = translator.translate([line], "nso")
        assert answer.tokens == alone.tokens
        assert math.isclose(answer.score, alone.score, rel_tol=1e-4, abs_tol=1e-6)
    assert len({answer.text for answer in together}) > 10, "answers hardly depend on the line: the test shows little"


def test_status_of_empty_and_over_long_lines(translator: Translator) -> None:
    answers = translator.translate(LINES, "nso")
    assert {i: a.status for i, a in enumerate(answers) if a.status != "translated"} == {
        3: "empty",
        10: "empty",
        17: "truncated",
    }
    assert (answers[3].text, answers[10].text) == ("", "")
    assert answers[17].text and answers[17].num_source_tokens > translator.max_positions


def test_an_over_long_line_is_translated_as_its_beginning(translator: Translator) -> None:
    pieces = translator.tokenizer.encode(LINES[17])
    whole, cut = translator.max_source_pieces, None
    for end in range(len(LINES[17])):  # a beginning of the text that has exactly as many pieces as fit
        if translator.tokenizer.encode(LINES[17][:end]) == pieces[:whole]:
            cut = LINES[17][:end]
    assert cut is not None
    fits, too_long = translator.translate([cut, LINES[17]], "nso")
    assert (fits.status, too_long.status) == ("translated", "truncated")
    assert fits.num_source_tokens == translator.max_positions
    assert fits.tokens == too_long.tokens


@pytest.mark.parametrize("space", ["\t", "\x0b", "\x0c", "\x1c", "\x1f", "\x85", "\xa0", "\u2028", "\u3000", " \r "])
def test_white_space_of_every_kind_is_a_space_as_in_training(translator: Translator, space: str) -> None:
    plain, other = translator.translate(["The house sees snow.", f"{space}The{space}house sees{space}snow."], "nso")
    assert other == plain
    scores = translator.score(["The house sees snow.", f"The{space}house sees snow."], [plain.tokens] * 2, "nso")
    assert scores[0] == scores[1]


@pytest.mark.parametrize("character", ["\0", "\x07", "\x7f", "\ufeff", "\uffff"])
def test_control_characters_are_left_out_as_in_training(translator: Translator, character: str) -> None:
    plain, other = translator.translate(["The house sees snow.", f"The ho{character}use sees snow."], "nso")
    assert other == plain


@pytest.mark.parametrize("line", ["\xad ", "\u2060 ", "\u200b", "\u200e\u202b", "\0", "\x1f", "\ufeff"])
def test_a_line_without_anything_visible_has_an_empty_answer(translator: Translator, line: str) -> None:
    (answer,) = translator.translate([line], "nso")
    assert (answer.text, answer.score, answer.status) == ("", 0.0, "empty")


def test_small_batches_give_the_same(run_dir: Path, translator: Translator) -> None:
    small = load_translator(run_dir, overrides=["smoe.decode.max_tokens=60"], device="cpu")
    assert [t.tokens for t in small.translate(LINES, "cat")] == [t.tokens for t in translator.translate(LINES, "cat")]


def test_batches_count_what_translations_begin_with(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = load_translator(run_dir, device="cpu", overrides=["smoe.decode.max_tokens=120", "smoe.decode.beam_size=2"])
    prefixes = ["a", "", f"{sentence(9)} " * 2, sentence(3), "", "b"] * 2
    sizes: list[tuple[int, int]] = []

    def remember(model: object, src: torch.Tensor, tgt_in: torch.Tensor, *rest: Any, n_best: int) -> list[Any]:
        begun = max(map(len, rest[-1]))
        sizes.append((len(src), max(src.shape[1], tgt_in.shape[1] + begun)))
        return [[Hypothesis((5,), 0.0, 0.0)] for _ in src]

    monkeypatch.setattr("smoe_ds.decode.translator.beam_search", remember)
    few.n_best(["Two birds."] * len(prefixes), "nso", 1, prefixes)
    assert sum(rows for rows, _ in sizes) == len(prefixes)
    assert all(rows == 1 or 2 * rows * width <= 120 for rows, width in sizes), sizes
    assert max(rows for rows, _ in sizes) > 1 and len({width for _, width in sizes}) > 1


def test_no_lines(translator: Translator) -> None:
    assert translator.translate([], "nso") == []
    assert translator.translate(["", ""], "nso")[1].status == "empty"


@pytest.mark.parametrize(
    ("source_token", "target_token"),
    [(True, True), (False, False), ("source", "after_end"), ("source_at_end", "after_end"), (True, "end")],
)
def test_language_tokens_are_those_of_training(
    tmp_path: Path, corpus: Corpus, source_token: bool | str, target_token: bool | str
) -> None:
    data = {"source_language_token": source_token, "target_language_token": target_token}
    translator = load_translator(random_run(tmp_path, corpus, data=data), device="cpu")
    seen: dict[str, list[int]] = {}
    encode, step = translator.model.encode, translator.model.decode_step

    def spy_encode(src: torch.Tensor, *, start: torch.Tensor) -> object:
        seen["src"] = src[0].tolist()
        return encode(src, start=start)

    def spy_step(tokens: torch.Tensor, cache: object) -> torch.Tensor:
        seen.setdefault("start", []).extend(tokens[:1].tolist())
        return step(tokens, cache)  # type: ignore[arg-type]

    translator.model.encode, translator.model.decode_step = spy_encode, spy_step  # type: ignore[assignment,method-assign]
    translator.translate([LINES[0]], "cat", "eng")
    tokenizer = corpus.tokenizer
    eng, cat, eos = tokenizer.language_id("eng"), tokenizer.language_id("cat"), tokenizer.eos_id
    before = {True: [cat], "source": [eng]}.get(source_token, [])
    after = [eng] if source_token == "source_at_end" else []
    assert seen["src"] == [*before, *tokenizer.encode(LINES[0]), eos, *after]
    start = {True: [cat], False: [tokenizer.bos_id], "after_end": [eos, cat], "end": [eos]}[target_token]
    assert seen["start"][: len(start)] == start


NLLB = {"source_language_token": "source", "target_language_token": "after_end"}


@pytest.mark.parametrize("temperature", ["0", "1.0"])
@pytest.mark.parametrize("alpha", ["0.0", "1.0"])
def test_scores_count_a_given_language_token_in_the_length_alone(
    tmp_path: Path, corpus: Corpus, alpha: str, temperature: str
) -> None:
    overrides = [f"smoe.decode.length_penalty={alpha}", f"smoe.decode.sampling.temperature={temperature}"]
    translator = load_translator(random_run(tmp_path, corpus, data=NLLB), overrides=overrides, device="cpu")
    answers = translator.translate(LINES, "nso", "eng")
    tokens = [answer.tokens for answer in answers]
    scores = translator.score(LINES, tokens, "nso", source_language="eng")
    assert scores == pytest.approx([answer.score for answer in answers], rel=1e-4, abs=1e-6)
    totals = translator.score(LINES, tokens, "nso", 0.0, "eng")
    lengths = [(len(one) + 2) ** float(alpha) for one in tokens]
    assert scores == pytest.approx([total / length for total, length in zip(totals, lengths, strict=True)])
    assert [t.tokens for t in translator.translate(LINES, "nso", "cat")] != tokens


def test_a_source_language_that_is_needed_is_asked_for(tmp_path: Path, corpus: Corpus) -> None:
    translator = load_translator(random_run(tmp_path, corpus, data=NLLB), device="cpu")
    with pytest.raises(DataError, match=r"reads the language of its input .* name it with --from"):
        translator.translate(LINES, "nso")
    with pytest.raises(DataError, match=r"'xyz'.*cat, eng, nso"):
        translator.translate(LINES, "nso", "xyz")
    answer = translator.translate(LINES[:1], "nso", "eng")[0]
    (pairs,) = translator.align(LINES[:1], [answer.tokens], "nso", "eng")
    assert [target for _, target in pairs] == list(range(len(answer.tokens)))


def test_the_target_language_matters(translator: Translator) -> None:
    nso, cat = translator.translate(LINES, "nso"), translator.translate(LINES, "cat")
    assert [t.tokens for t in nso] != [t.tokens for t in cat]
    with pytest.raises(DataError, match=r"'xyz'.*cat, eng, nso"):
        translator.translate(LINES, "xyz")


@pytest.mark.parametrize("alpha", ["0.0", "1.0"])
def test_score_of_a_translation_is_its_own_score(run_dir: Path, alpha: str) -> None:
    translator = load_translator(run_dir, overrides=[f"smoe.decode.length_penalty={alpha}"], device="cpu")
    answers = translator.translate(LINES, "nso")
    scores = translator.score(LINES, [answer.tokens for answer in answers], "nso")
    assert scores == pytest.approx([answer.score for answer in answers], rel=1e-4, abs=1e-6)
    assert len(set(scores)) > 10


def test_score_refuses_what_does_not_fit(translator: Translator) -> None:
    with pytest.raises(DataError, match="2 source lines, but 1 target"):
        translator.score(LINES[:2], [[5]], "nso")
    with pytest.raises(DataError, match="target 2 has 64 tokens, the model takes 63"):
        translator.score(LINES[:2], [[9] * 63, [9] * 64], "nso")


def test_special_tokens_are_never_generated(corpus: Corpus, translator: Translator) -> None:
    languages = {corpus.tokenizer.language_id(name) for name in corpus.tokenizer.languages}
    assert set(translator.special.forbidden) == {0, 1, 3} | languages


def test_a_translation_is_one_line_whatever_bytes_it_spells(corpus: Corpus, translator: Translator) -> None:
    breaks = "a\nb\rc\u2028d\x85e\u2029f\x0bg\x0ch"
    byte = {i: index for index in range(corpus.tokenizer.vocab_size) if (i := _byte_of(corpus, index)) is not None}
    tokens = tuple(byte[value] for value in breaks.encode())
    answer = translator._translation(Hypothesis(tokens, -1.0, -1.0), 5, truncated=False)
    assert answer.text.split() == list("abcdefgh")
    assert len(answer.text.splitlines()) == 1


def _byte_of(corpus: Corpus, index: int) -> int | None:
    """The byte that a byte piece ``<0xNN>`` stands for."""
    piece = corpus.tokenizer._processor.IdToPiece(index)
    return int(piece[1:-1], 16) if piece.startswith("<0x") else None


def test_half_precision_runs(run_dir: Path, translator: Translator) -> None:
    half = load_translator(run_dir, dtype="bfloat16", device="cpu")
    assert half.model.embedding.weight.dtype == torch.bfloat16
    scores = [t.score for t in half.translate(LINES, "nso")]
    expected = [t.score for t in translator.translate(LINES, "nso")]
    assert scores == pytest.approx(expected, rel=0.3, abs=0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_gives_what_cpu_gives(run_dir: Path, translator: Translator) -> None:
    on_gpu = load_translator(run_dir, device="cuda").translate(LINES, "nso")
    expected = [t.score for t in translator.translate(LINES, "nso")]
    assert [t.score for t in on_gpu] == pytest.approx(expected, rel=1e-2, abs=1e-3)
