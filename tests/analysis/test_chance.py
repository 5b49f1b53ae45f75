"""Permutation tests of requested capacity: effects against loops over tokens, and what is found where nothing is."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest

from smoe_ds.analysis.chance import chance_tests
from smoe_ds.analysis.pieces import Pieces
from smoe_ds.analysis.routing_use import DirectionUse, PredictedTokens, SentenceTokens

VOCAB = 50
RANK_V = np.array([0, *range(1, VOCAB)])
PIECES = Pieces(("x",) * VOCAB, RANK_V * 0, RANK_V, RANK_V)
Sentence = list[tuple[int, float]]


def use_of(by_direction: dict[str, list[Sentence]]) -> dict[str, DirectionUse]:
    """Sentences of (id, requested capacity), the same on both sides; only the encoder has a block."""
    found = {}
    for direction, sentences in by_direction.items():
        flat = [token for sentence in sentences for token in sentence]
        tokens = SentenceTokens(
            np.array([index for index, _ in flat], np.int32),
            np.array([rc for _, rc in flat], np.float32),
            np.array([len(sentence) for sentence in sentences]),
        )
        blocks: dict[str, Any] = {"encoder.layers.1.ffn": None}
        predicted = PredictedTokens(tokens.ids_T, tokens.rc_T, tokens.length_N)
        found[direction] = DirectionUse({}, blocks, {"encoder": tokens, "decoder": tokens}, predicted)
    return found


def drawn(seed: int, languages: int = 3, shift: float = 0.0, slope: float = 0.0, later: float = 0.0) -> Any:
    """Sentences with a level of their own, so that tokens depend on one another; the rest is added to it."""
    draw = np.random.default_rng(seed)
    by_direction = {}
    for number in range(languages):
        sentences = []
        for _ in range(20):
            level = draw.normal(2, 0.3) + shift * number
            ids = draw.integers(0, VOCAB, draw.integers(2, 12)).tolist()
            noise = draw.normal(0, 0.1, len(ids)).tolist()
            rc = [level + slope * math.log10(max(i, 1)) + later * place / 10 for place, i in enumerate(ids)]
            sentences.append([(i, r + e) for i, r, e in zip(ids, rc, noise, strict=True)])
        by_direction[f"l{number}-eng"] = sentences
    return by_direction


def test_effects_are_those_of_loops_over_tokens() -> None:
    by_direction = drawn(0, shift=0.1, slope=0.2, later=0.3)
    found = {one.by: one for one in chance_tests(use_of(by_direction), PIECES, draws=99)}
    assert {one.side for one in found.values()} == {"encoder"}
    means = []
    for sentences in by_direction.values():
        values = [rc for sentence in sentences for _, rc in sentence]
        means.append(sum(values) / len(values))
    assert found["language"].effect == pytest.approx(max(means) - min(means), abs=1e-6)
    for by in ("frequency", "position"):
        above = below = 0.0
        for sentence in (sentence for sentences in by_direction.values() for sentence in sentences):
            pairs = [
                (math.log10(RANK_V[i]) if by == "frequency" else place / 10, rc)
                for place, (i, rc) in enumerate(sentence)
                if RANK_V[i] > 0
            ]
            x_mean, rc_mean = (sum(pair[i] for pair in pairs) / max(len(pairs), 1) for i in (0, 1))
            above += sum((x - x_mean) * (rc - rc_mean) for x, rc in pairs)
            below += sum((x - x_mean) ** 2 for x, _ in pairs)
        assert found[by].effect == pytest.approx(above / below, abs=1e-5), by
        assert found[by].sentences == 60
    assert found["frequency"].effect == pytest.approx(0.2, abs=0.03)
    assert found["position"].effect == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize(("by", "there"), [*product(("language", "frequency", "position"), (True, False))])
def test_what_is_there_is_found_and_what_is_not_is_not(by: str, there: bool) -> None:
    given = {"language": {"shift": 0.2}, "frequency": {"slope": 0.1}, "position": {"later": 0.2}}[by] if there else {}
    p = [one.p for seed in range(20) for one in chance_tests(use_of(drawn(seed, **given)), PIECES, 99) if one.by == by]
    assert len(p) == 20
    if there:
        assert max(p) <= 0.05
    else:
        assert sum(value <= 0.05 for value in p) <= 4 and max(p) > 0.5


def test_the_exact_share_of_permutations() -> None:
    """Two languages of two sentences each: 8 of the 24 orders split them as they are split, up to names."""
    one_each = {"a-eng": [[(5, 1.0)], [(5, 1.0)]], "b-eng": [[(5, 3.0)], [(5, 3.0)]]}
    (found,) = chance_tests(use_of(one_each), PIECES, draws=20_000)
    assert found.by == "language" and found.effect == 2.0
    assert found.p == pytest.approx(1 / 3, abs=0.02)


def test_nothing_to_compare() -> None:
    assert chance_tests(use_of({"a-eng": [[(5, 1.0)]]}), PIECES) == []
    without = {name: DirectionUse(of.sides, {}, of.sentences, of.predicted) for name, of in use_of(drawn(0)).items()}
    assert chance_tests(without, PIECES) == []
