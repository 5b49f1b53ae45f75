"""Intervals and paired tests against recounts that score every drawn text on its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import sacrebleu

from smoe_ds.evaluate.metrics import Confidence, Metrics
from smoe_ds.evaluate.significance import paired_tests
from tests.helpers.prepared import OBJECTS, SUBJECTS

WORDS = sorted({word for sentence in [*OBJECTS, *SUBJECTS] for word in sentence.split()})
SEED = 12345  # sacreBLEU's
RESAMPLES, TRIALS = 100, 100


def noisy(lines: Sequence[str], share: float, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choice(WORDS) if draw.random() < share else w for w in line.split()) for line in lines]


DRAW = random.Random(1)
REFERENCES = [" ".join(DRAW.choice(WORDS) for _ in range(DRAW.randint(6, 14))) for _ in range(16)]
BETTER, WORSE = noisy(REFERENCES, 0.2, 2), noisy(REFERENCES, 0.35, 3)


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    return float(sacrebleu.corpus_bleu(list(hypotheses), [list(references)], force=True).score)


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    return float(sacrebleu.corpus_chrf(list(hypotheses), [list(references)], word_order=2).score)


def drawn_texts() -> list[list[int]]:
    size = (RESAMPLES, len(REFERENCES))
    return [list(row) for row in np.random.default_rng(SEED).choice(len(REFERENCES), size=size, replace=True)]


def chosen(lines: Sequence[str], places: Sequence[int]) -> list[str]:
    return [lines[place] for place in places]


@pytest.mark.parametrize("score", [bleu, chrf])
def test_the_interval_is_that_of_texts_drawn_and_scored_one_by_one(score: Callable[..., float]) -> None:
    found = Metrics().confidence(BETTER, REFERENCES, RESAMPLES)
    scores = sorted(score(chosen(BETTER, places), chosen(REFERENCES, places)) for places in drawn_texts())
    cut = RESAMPLES // 40  # 2.5 % on either side
    expected = (scores[-1 - cut] - scores[cut]) / 2
    assert getattr(found, score.__name__) == pytest.approx(expected, rel=1e-4)
    assert expected > 1 and found.resamples == RESAMPLES


@pytest.mark.parametrize("score", [bleu, chrf])
def test_p_is_that_of_a_recount(score: Callable[..., float]) -> None:
    found = paired_tests(Metrics(), BETTER, WORSE, REFERENCES, RESAMPLES, TRIALS)
    difference = abs(score(BETTER, REFERENCES) - score(WORSE, REFERENCES))
    assert getattr(found, score.__name__) == pytest.approx(score(WORSE, REFERENCES))

    apart = []
    for places in drawn_texts():
        references = chosen(REFERENCES, places)
        apart.append(abs(score(chosen(BETTER, places), references) - score(chosen(WORSE, places), references)))
    beyond = sum(one - sum(apart) / RESAMPLES > difference for one in apart)
    assert getattr(found, f"{score.__name__}_bootstrap") == pytest.approx((beyond + 1) / (RESAMPLES + 1))

    swaps = np.random.default_rng(SEED).integers(2, size=(TRIALS, len(REFERENCES)), dtype=bool)
    beyond = 0
    for row in swaps:
        first = [worse if swap else better for swap, better, worse in zip(row, BETTER, WORSE, strict=True)]
        second = [better if swap else worse for swap, better, worse in zip(row, BETTER, WORSE, strict=True)]
        beyond += abs(score(first, REFERENCES) - score(second, REFERENCES)) > difference + 1e-9
    assert getattr(found, f"{score.__name__}_randomization") == pytest.approx((beyond + 1) / (TRIALS + 1), abs=0.02)


def test_a_system_does_not_differ_from_itself() -> None:
    found = paired_tests(Metrics(), BETTER, BETTER, REFERENCES, 100, 100)
    assert found.bleu == pytest.approx(bleu(BETTER, REFERENCES))
    assert (found.bleu_bootstrap, found.bleu_randomization, found.chrf_randomization) == (1.0, 1.0, 1.0)


def test_a_clear_difference_is_seen_and_a_small_one_is_not() -> None:
    references = REFERENCES * 6
    clear = paired_tests(Metrics(), references, noisy(references, 0.5, 4), references, 200, 200)
    assert max(clear.bleu_bootstrap, clear.bleu_randomization, clear.chrf_bootstrap, clear.chrf_randomization) < 0.01
    alike = [noisy(references, 0.3, seed) for seed in (5, 6)]
    small = paired_tests(Metrics(), *alike, references, 200, 200)
    assert min(small.bleu_bootstrap, small.bleu_randomization) > 0.05


def test_scores_of_0_have_an_interval_too() -> None:
    """sacreBLEU's own way through `corpus_score` fails there."""
    found = Metrics().confidence(["x"] * 4, ["the house sees snow"] * 4, 100)
    assert found == Confidence(0.0, 0.0, 100)
