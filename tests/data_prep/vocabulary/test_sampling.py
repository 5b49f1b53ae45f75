"""The temperature sample for the vocabulary: shares, repetitions, and nothing that hangs on order."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.vocabulary.sampling import language_quotas, repetitions


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0, 100.0])
def test_shares_are_powers_of_the_counts(temperature: float) -> None:
    sentences = {"eng": 1_000_000, "nso": 4_000, "cat": 300_000}
    quotas = language_quotas(sentences, temperature, 500_000)
    total = sum(count ** (1 / temperature) for count in sentences.values())
    for language, count in sentences.items():
        assert quotas[language] == round(500_000 * count ** (1 / temperature) / total)
    assert sum(quotas.values()) == pytest.approx(500_000, abs=2)


def test_temperature_one_on_everything_takes_each_sentence_once() -> None:
    assert language_quotas({"eng": 70, "nso": 30}, 1.0, 10_000) == {"eng": 70, "nso": 30}


def test_empty_and_tiny_languages() -> None:
    assert language_quotas({"eng": 1_000_000, "nso": 1, "cat": 0}, 1.0, 100) == {"eng": 100, "nso": 1, "cat": 0}
    assert language_quotas({"eng": 0}, 5.0, 100) == {"eng": 0}


@pytest.mark.parametrize("quota", [0, 1, 9, 10, 11, 25, 30])
def test_repetitions_add_up_and_differ_by_one_at_most(quota: int) -> None:
    keys = np.random.default_rng(1).permutation(np.repeat(np.arange(10, dtype=np.uint64), 3))
    counts = repetitions(keys, quota, seed=1)
    taken = {int(key): int(counts[keys == key].sum()) for key in range(10)}
    assert counts.sum() == quota and max(taken.values()) - min(taken.values()) <= 1
    assert all((counts[keys == key] > 0).sum() <= 1 for key in range(10))


def test_which_sentences_are_taken_hangs_on_the_seed_and_not_on_their_order() -> None:
    keys = np.arange(1000, dtype=np.uint64)
    chosen = set(np.flatnonzero(repetitions(keys, 100, seed=1)).tolist())
    backwards = keys[::-1]
    assert set(backwards[repetitions(backwards, 100, seed=1) > 0].tolist()) == chosen
    assert len(set(np.flatnonzero(repetitions(keys, 100, seed=2)).tolist()) & chosen) < 30
    assert repetitions(keys[:0], 5, seed=1).shape == (0,)
