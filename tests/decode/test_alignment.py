"""Alignments against the attention of decoding step by step, head by head in plain loops."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from smoe_ds.cli.main import main
from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.alignment import mean_cross_attention
from smoe_ds.decode.load import load_translator
from smoe_ds.decode.translator import Translator
from smoe_ds.decode.word_alignment import word_pairs, words_of
from smoe_ds.model.transformer import Transformer
from tests.helpers.random_run import random_run
from tests.helpers.random_translation_model import padded, random_model, random_sources

LINES = ["The house sees snow.", "", "My old friend opens the blue door.", "Two birds."]


def stepwise(model: Transformer, source: list[int], tokens: list[int]) -> list[list[float]]:
    """Mean over heads of the last decoder layer's attention in every step, from its query and its keys."""
    attention: Any = model.decoder.layers[-1].cross_attention
    seen: list[torch.Tensor] = []
    handle = attention.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0][0, 0]))
    with torch.no_grad():
        encoded = model.encode(torch.tensor([source]))
        cache = model.start_decoding(encoded)
        for token in tokens:
            model.decode_step(torch.tensor([token]), cache)
        handle.remove()
        keys, width = attention.key_value(encoded.memory[0])[:, : seen[0].numel()], seen[0].numel()
        rows, size = [], width // attention.num_heads
        for x in seen:
            query, mean = attention.query(x), [0.0] * len(source)
            for head in range(attention.num_heads):
                part = slice(head * size, (head + 1) * size)
                weights = [math.exp(float(query[part] @ key[part]) / math.sqrt(size)) for key in keys]
                mean = [m + w / sum(weights) / attention.num_heads for m, w in zip(mean, weights, strict=True)]
            rows.append(mean)
    return rows


@pytest.mark.parametrize("strata", [[], [2, 2]], ids=str)
def test_mean_attention_is_that_of_every_step(strata: list[int]) -> None:
    model = random_model(3, strata, 16)
    sources = random_sources(3, 5, 8, 6, 16)
    targets = [[4, *row[:-1]] for row in random_sources(4, 5, 8, 6, 16)]
    found = mean_cross_attention(model, padded(sources), padded(targets))
    for source, target, weights in zip(sources, targets, found, strict=True):
        expected = torch.tensor(stepwise(model, source, target), dtype=torch.float64)
        torch.testing.assert_close(weights[: len(target), : len(source)], expected, rtol=1e-9, atol=1e-12)
        assert not weights[:, len(source) :].any()


@pytest.mark.parametrize("source_token", [True, False, "source_at_end"])
def test_positions_count_pieces_of_the_text(tmp_path: Path, corpus: Corpus, source_token: bool | str) -> None:
    run = random_run(tmp_path, corpus, data={"source_language_token": source_token})
    translator: Translator = load_translator(run, device="cpu")
    answers = [answer.tokens for answer in translator.translate(LINES, "nso", "eng")]
    tokenizer, language = translator.tokenizer, translator.tokenizer.language_id("nso")
    before = [language] if source_token is True else []
    after = [tokenizer.language_id("eng")] if source_token == "source_at_end" else []
    found = translator.align(LINES, answers, "nso", "eng")
    for line, tokens, pairs in zip(LINES, answers, found, strict=True):
        pieces = tokenizer.encode(line)
        source = [*before, *pieces, tokenizer.eos_id, *after]
        rows = stepwise(translator.model, source, [language, *tokens[:-1]]) if line else []
        of_pieces = [row[len(before) : len(before) + len(pieces)] for row in rows]
        assert pairs == [(row.index(max(row)), place) for place, row in enumerate(of_pieces)]
        assert len(pairs) == len(tokens)


def naive_words(text: str, parts: list[str]) -> list[int]:
    """The word that each part of a text begins in: the number of words that are complete before its first letter."""
    numbers, before = [], ""
    for part in parts:
        begun = before + part[: len(part) - len(part.lstrip())]
        complete = len(begun.split()) - bool(begun and not begun[-1].isspace())
        numbers.append(complete)
        before += part
    assert before == text
    return numbers


def test_words_of_pieces() -> None:
    text = "Ça  va, 木 é\u2028x"
    parts = ["", "Ç", "a", " ", " va", ",", " ", "", "木", " é", "\u2028", "x"]
    ends = [len("".join(parts[: n + 1]).encode()) for n in range(len(parts))]
    spans = list(zip([0, *ends], ends, strict=False))
    assert words_of(text, spans) == naive_words(text, parts) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 4, 4]
    assert words_of("a ", [(0, 1), (1, 2), None]) == [0, None, None]
    assert words_of("", [(0, 0)]) == [None]


def test_pairs_of_words(tmp_path: Path, corpus: Corpus) -> None:
    """Every target word that has text goes with the words of the pieces that its own pieces go with."""
    translator = load_translator(random_run(tmp_path, corpus), device="cpu")
    tokenizer = translator.tokenizer
    lines = ["The  house\tsees snow.", "木 x", "Two birds."]
    targets = [[*tokenizer.encode("Ka ½ lomi"), tokenizer.unk_id, *tokenizer.encode("ga")] for _ in lines]
    for line, tokens, pairs in zip(lines, targets, translator.align(lines, targets, "nso"), strict=True):
        words = [naive_words(t, [p.surface for p in proto.pieces]) for t, proto in (
            (" ".join(line.split()), tokenizer._processor.encode(" ".join(line.split()), return_type="proto")),
            ("Ka ½ lomi ga", tokenizer._processor.decode([i for i in tokens if i != 3], return_type="proto")),
        )]  # fmt: skip
        place = iter(words[1])
        of_target = [None if index == tokenizer.unk_id else next(place) for index in tokens]
        expected = {(words[0][i], of_target[j]) for i, j in pairs if of_target[j] is not None}
        found = word_pairs(tokenizer, line, tokens, pairs)
        assert set(found) == expected and len(found) == len(expected)
        assert [target for _, target in found] == sorted(target for _, target in found)
        assert {target for _, target in found} == set(range(len(tokenizer.decode(tokens).split())))


def test_pharaoh_format(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    command = ["translate", str(run_dir), "--to", "nso", "--device", "cpu"]
    files = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    translator = load_translator(run_dir, device="cpu")
    for n, tab, align in ((1, "\t", ["--align", "pieces"]), (2, " ||| ", ["--align"])):
        assert main([*command, *files, *align, "--n-best", str(n)]) == 0
        found = [line.split(tab)[-1] for line in (tmp_path / "out").read_text(encoding="utf-8").split("\n")[:-1]]
        answers = translator.n_best(LINES, "nso", n)
        lines = [line for line, best in zip(LINES, answers, strict=True) for _ in best]
        tokens = [answer.tokens for best in answers for answer in best]
        pairs = translator.align(lines, tokens, "nso")
        if align == ["--align"]:
            rows = zip(lines, tokens, pairs, strict=True)
            pairs = [word_pairs(translator.tokenizer, *row) for row in rows]
        assert found == [" ".join(f"{i}-{j}" for i, j in row) for row in pairs]
