"""Which sentences the vocabulary gives back as they are, by language: looked at where text is encoded, on a sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_prep.cleaning.examples import Examples, merged
from data_prep.vocabulary.lost import lost_characters, most_lost
from smoe_ds.data.ragged import Ragged
from smoe_ds.data.round_trip import changed_sentences, first_difference
from smoe_ds.data.seeding import mix64, seeded_key
from smoe_ds.data.tokenizer import Tokenizer

SAMPLE = 2000
"""Sentence pairs looked at of a split of a pair, about; all of them where there are no more."""
MAX_EXAMPLES = 3


def sampled(start: int, stop: int, total: int, seed: int) -> np.ndarray:
    """Which lines of a text are looked at; how the text is cut into pieces makes no difference.

    Args:
        start: number of the first line in the text.
        stop: number after the last line.
        total: lines of the text that come into question.
        seed: the specification's.

    Returns:
        bool [stop - start].
    """
    if total <= SAMPLE:
        return np.ones(stop - start, bool)
    words = mix64(np.arange(start, stop, dtype=np.uint64) ^ np.uint64(seeded_key(seed, "round trip")))
    chosen: np.ndarray = words < np.uint64((SAMPLE << 64) // total)
    return chosen


def compare(
    tokenizer: Tokenizer, languages: Sequence[str], texts: Sequence[Sequence[bytes]], rows: Sequence[Ragged]
) -> dict[str, Any]:
    """Decodes sentence pairs.

    Args:
        tokenizer: the vocabulary.
        languages: of the two sides.
        texts: sentences of each side, UTF-8.
        rows: their ids.

    Returns:
        by language ``compared``, sentences; ``changed``, those that did not come back; ``lost``, how often which
        character has no piece; and ``examples`` of the changed, ranked.
    """
    found: dict[str, Any] = {"compared": {}, "changed": {}, "lost": {}}
    examples = Examples(seed=0)
    for language, lines, ids in zip(languages, texts, rows, strict=True):
        changed = changed_sentences(tokenizer, lines, ids)
        found["compared"][language], found["changed"][language] = len(lines), len(changed)
        found["lost"][language] = dict(sorted(lost_characters(tokenizer, lines, ids).items()))
        for sentences in changed:
            before, after = first_difference(*sentences)
            examples.add(language, before.encode(), after.encode())
    return found | {"examples": examples.ranked()}


def figures(parts: Sequence[Mapping[str, Any]], languages: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What `compare` found in all parts of a corpus: by language ``compared``, ``changed`` and ``changed_examples``;
    ``lost``, characters, and ``lost_characters``, the most frequent of them."""
    examples = merged(part["examples"] for part in parts)
    lost: dict[str, Counter[str]] = {language: Counter() for language in languages}
    for part in parts:
        for language, counts in part["lost"].items():
            lost[language].update(counts)
    return {
        language: {
            **{name: sum(part[name].get(language, 0) for part in parts) for name in ("compared", "changed")},
            "changed_examples": [sides for _, *sides in examples.get(language, [])[:MAX_EXAMPLES]],
            "lost": lost[language].total(),
            "lost_characters": most_lost(lost[language]),
        }
        for language in languages
    }
