"""How often each sentence enters the sample that the vocabulary is trained on: functions of counts and hashes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data_prep.held_out.selection import lowest, seeded_ranks
from smoe_ds.data.mixture import temperature_weights


def language_quotas(sentences: Mapping[str, int], temperature: float, sample: int) -> dict[str, int]:
    """Sample size of each language.

    Args:
        sentences: distinct sentences per language.
        temperature: T, see `temperature_weights`.
        sample: size of the whole sample, in sentences; at most the total is used.

    Returns:
        sentences per language, at least 1 where there are any.
    """
    present = {language: count for language, count in sentences.items() if count}
    weights = dict(zip(present, map(float, temperature_weights([*present.values()], temperature)), strict=True))
    size = min(sample, sum(sentences.values()))
    total = sum(weights.values())
    return {language: max(1, round(size * weights.get(language, 0) / total)) if count else 0
            for language, count in sentences.items()}  # fmt: skip


def repetitions(keys: np.ndarray, quota: int, seed: int) -> np.ndarray:
    """How often each sentence of a language is taken, so that ``quota`` sentences are.

    A sentence whose key occurred before is not taken. If the quota exceeds the distinct sentences, all are repeated;
    the seeded order of the keys decides which are taken once more, or at all.

    Args:
        keys: key of each sentence, uint64 [N].
        quota: sentences to take.
        seed: the specification's seed.

    Returns:
        int64 [N] with sum ``quota`` (0 if there are no sentences).
    """
    counts = np.zeros(len(keys), np.int64)
    if not len(keys):
        return counts
    distinct, first = np.unique(keys, return_index=True)
    rounds, rest = divmod(quota, len(distinct))
    counts[first] = rounds
    counts[first[lowest(seeded_ranks(distinct, seed, "sentencepiece"), rest)]] += 1
    return counts
