"""Whether requested capacity follows language, frequency and position, or differs by chance only: permutation tests.

Tokens of a sentence depend on one another, so whole sentences are what is permuted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smoe_ds.analysis.pieces import Pieces
from smoe_ds.analysis.routing_use import SIDES, DirectionUse, SentenceTokens, language_of
from smoe_ds.data.ragged import Int64

Float64 = NDArray[np.float64]
BY = ("language", "frequency", "position")
DRAWS = 999
_AT_ONCE = 200_000_000  # sentences times draws: fewer draws for more sentences


@dataclass(frozen=True)
class ChanceTest:
    """How requested capacity goes with one property of tokens, mean over the blocks of a side.

    Attributes:
        side: ``encoder`` or ``decoder``.
        by: one of `BY`.
        effect: by language the mean of the highest minus that of the lowest one; by frequency what a piece of ten times
            the rank has more in the same sentence; by position what a token has more that comes ten tokens later.
        p: share of the permutations, the one found included, that go as far.
        sentences: sentences that were permuted.
    """

    side: str
    by: str
    effect: float
    p: float
    sentences: int


def chance_tests(use: Mapping[str, DirectionUse], pieces: Pieces, draws: int = DRAWS) -> list[ChanceTest]:
    """The tests of every side that has blocks; without a property that varies there is none.

    Args:
        use: by direction.
        pieces: the vocabulary, ranked.
        draws: permutations.
    """
    found = []
    for side in SIDES:
        if not any(name.startswith(f"{side}.") for of in use.values() for name in of.blocks):
            continue
        by_language: dict[str, list[SentenceTokens]] = {}
        for direction, of in use.items():
            by_language.setdefault(language_of(side, direction), []).append(of.sentences[side])
        languages = [_joined(parts) for parts in by_language.values()]
        found += [
            one for one in (_of_language(side, languages, draws), *_of_tokens(side, languages, pieces, draws)) if one
        ]
    return found


def _joined(parts: Sequence[SentenceTokens]) -> SentenceTokens:
    return SentenceTokens(
        *(np.concatenate([getattr(part, key) for part in parts]) for key in ("ids_T", "rc_T", "length_N"))
    )


def _of_language(side: str, languages: Sequence[SentenceTokens], draws: int) -> ChanceTest | None:
    """Permutes the languages of sentences; the statistic is the sum of squares between languages."""
    if len(languages) < 2:
        return None
    label_N = np.repeat(np.arange(len(languages)), [len(of.length_N) for of in languages])
    length_N = np.concatenate([of.length_N for of in languages]).astype(np.float64)
    sum_N = np.concatenate([_by_sentence(of.rc_T.astype(np.float64), of.length_N) for of in languages])
    total = sum_N.sum() / length_N.sum()

    def means(label: Int64) -> tuple[Float64, Float64]:
        tokens_L = _sums(label, length_N, len(languages))
        return _sums(label, sum_N, len(languages)) / tokens_L, tokens_L

    def between(label: Int64) -> float:
        mean_L, tokens_L = means(label)
        return float(tokens_L @ (mean_L - total) ** 2)

    draw = np.random.default_rng(1)
    expected = (between(draw.permutation(label_N)) for _ in range(_affordable(draws, len(label_N))))
    mean_L, _ = means(label_N)
    return ChanceTest(
        side, "language", float(mean_L.max() - mean_L.min()), _p(between(label_N), expected), len(label_N)
    )


def _of_tokens(
    side: str, languages: Sequence[SentenceTokens], pieces: Pieces, draws: int
) -> Iterator[ChanceTest | None]:
    """Compares the pieces of a sentence with one another, control tokens such as its end left out.

    The sign of what each sentence shows is what is permuted.
    """
    tokens = _joined(languages)
    rank_T = pieces.rank_V[tokens.ids_T]
    log_rank_T = np.log10(np.maximum(rank_T, 1))
    first_N = np.cumsum(tokens.length_N) - tokens.length_N
    place_T = (np.arange(len(tokens.ids_T)) - np.repeat(first_N, tokens.length_N)) / 10
    for by, x_T in (("frequency", log_rank_T), ("position", place_T)):
        yield _slope(side, by, x_T, rank_T > 0, tokens, draws)


def _slope(
    side: str, by: str, x_T: Float64, known_T: NDArray[np.bool_], tokens: SentenceTokens, draws: int
) -> ChanceTest | None:
    sentence_T = np.repeat(np.arange(len(tokens.length_N)), tokens.length_N)[known_T]
    size, x_T, rc_T = len(tokens.length_N), x_T[known_T], tokens.rc_T[known_T].astype(np.float64)
    number_N = np.maximum(np.bincount(sentence_T, minlength=size), 1)
    x_T = x_T - (_sums(sentence_T, x_T, size) / number_N)[sentence_T]
    rc_T = rc_T - (_sums(sentence_T, rc_T, size) / number_N)[sentence_T]
    together_N = _sums(sentence_T, x_T * rc_T, size)
    spread = float(x_T @ x_T)
    if spread == 0:
        return None
    draw = np.random.default_rng(1)
    expected = (
        abs(float(together_N @ draw.choice(np.array([-1.0, 1.0]), size))) for _ in range(_affordable(draws, size))
    )
    found = float(together_N.sum())
    return ChanceTest(side, by, found / spread, _p(abs(found), expected), size)


def _by_sentence(values_T: Float64, length_N: Int64) -> Float64:
    """Sums of values over the tokens of each sentence."""
    return _sums(np.repeat(np.arange(len(length_N)), length_N), values_T, len(length_N))


def _sums(label: Int64, values: Float64, size: int) -> Float64:
    """Sums of values by label, those that have none included."""
    return np.asarray(np.bincount(label, values, size), np.float64)


def _p(found: float, expected: Iterator[float]) -> float:
    reached = [other >= found * (1 - 1e-12) for other in expected]
    return (1 + sum(reached)) / (1 + len(reached))


def _affordable(draws: int, sentences: int) -> int:
    return max(99, min(draws, _AT_ONCE // max(sentences, 1)))
