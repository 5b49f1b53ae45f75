"""Scores and tests from packed counts are those of sacreBLEU."""

from __future__ import annotations

import random

import numpy as np
import pytest

from smoe_ds.evaluate.counts import BLEU, MOST, Counts, bleu_of, chrf_of, p_value, randomised
from smoe_ds.evaluate.metrics import Metrics
from smoe_ds.evaluate.significance import paired_tests

WORDS = ["the", "a", "cat", "dog", "house", "runs", "sees", "big", "small", "red"]


def texts(size: int, right: float, seed: int = 1) -> tuple[list[str], list[str]]:
    """Translations, so many of whose words are right, and references."""
    draw, words = random.Random(7), random.Random(seed)
    references = [" ".join(draw.choices(WORDS, k=draw.randint(0, 9))) for _ in range(size)]
    own = [[word if words.random() < right else words.choice(WORDS) for word in line.split()] for line in references]
    return [" ".join(line[: len(line) - (words.random() < 0.3)]) for line in own], references


@pytest.mark.parametrize("size", [1, 60, MOST + 37])
@pytest.mark.parametrize("right", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("tokenizer", ["13a", "char"])
def test_scores_are_sacrebleus(size: int, right: float, tokenizer: str) -> None:
    """Whatever is empty, short or without a match, and after packing."""
    hypotheses, references = texts(size, right)
    metrics = Metrics(tokenizer)
    counts = Counts.of(metrics, hypotheses, references, "digest")
    assert len(counts.sums_UC) == min(size, MOST) and counts.sentences == size
    total = counts.sums_UC.sum(0)[None].astype(np.float64)
    score = metrics.score(hypotheses, references)
    assert bleu_of(total)[0] == pytest.approx(score.bleu, abs=1e-9)
    assert chrf_of(total)[0] == pytest.approx(score.chrf, abs=1e-9)


def test_scores_without_any_match() -> None:
    for hypothesis in ("", "zebra", "zebra zebra zebra zebra zebra"):
        metrics = Metrics()
        counts = Counts.of(metrics, [hypothesis], ["the cat sees a dog"], "").sums_UC.astype(np.float64)
        score = metrics.score([hypothesis], ["the cat sees a dog"])
        assert (bleu_of(counts)[0], chrf_of(counts)[0]) == (pytest.approx(score.bleu), pytest.approx(score.chrf))


@pytest.mark.parametrize("right", [0.55, 0.7], ids=["alike", "better"])
def test_the_test_is_sacrebleus(right: float) -> None:
    """With a group a sentence, but for the draws."""
    (own, references), (other, _) = texts(80, right, seed=2), texts(80, 0.5)
    metrics = Metrics()
    usual = paired_tests(metrics, own, other, references, 10, 1000)
    found = randomised([tuple(Counts.of(metrics, text, references, "") for text in (own, other))], 4000, seed=5)
    for name, p in (("bleu", usual.bleu_randomization), ("chrf", usual.chrf_randomization)):
        assert p_value(getattr(found, name), getattr(found, f"{name}_N")) == pytest.approx(p, abs=0.05)
    assert found.bleu == pytest.approx(metrics.score(own, references).bleu - usual.bleu)


def test_equal_systems_differ_by_nothing() -> None:
    counts = Counts.of(Metrics(), *texts(30, 0.5), "")
    found = randomised([(counts, counts)], 50, seed=1)
    assert (found.bleu, p_value(found.bleu, found.bleu_N)) == (0.0, 1.0)


def test_runs_of_a_system_are_exchanged_alike() -> None:
    """Twice the same pair is no more evidence than once."""
    metrics = Metrics()
    pair = tuple(Counts.of(metrics, texts(40, right, seed=2)[0], texts(40, 0)[1], "") for right in (0.7, 0.5))
    once, twice = (randomised([pair] * times, 500, seed=1) for times in (1, 2))
    assert np.allclose(once.bleu_N, twice.bleu_N)


def test_what_can_be_compared() -> None:
    counts = Counts.of(Metrics(), *texts(5, 0.5), "digest")
    assert counts.comparable(Counts.of(Metrics(), *texts(5, 0.9), "digest"))
    assert not counts.comparable(Counts.of(Metrics(), *texts(5, 0.5), "other"))
    assert not counts.comparable(Counts.of(Metrics("char"), *texts(5, 0.5), "digest"))
    assert counts.sums_UC.shape == (5, BLEU + 24)
    with pytest.raises(ValueError):
        _ = Counts("digest", counts.signature, 5, counts.packed[:-5] + "00000").sums_UC
