"""Negative log-likelihood of groups of predicted tokens: by direction, language, frequency, kind of piece, position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smoe_ds.analysis.pieces import KINDS, Pieces
from smoe_ds.analysis.routing_use import DirectionUse, PredictedTokens, language_of
from smoe_ds.data.ragged import Int64


@dataclass(frozen=True)
class GroupLoss:
    """A group of the tokens that the decoder is to predict.

    Attributes:
        by: what the tokens are grouped by, as in `smoe_ds.analysis.requested_capacity.GROUPINGS`.
        group: the direction, the target language, the band of ranks, the kind of piece, or the position, from 1.
        tokens: tokens of the group.
        nll: their mean negative log-likelihood [nat].
    """

    by: str
    group: str
    tokens: int
    nll: float


def group_losses(use: Mapping[str, DirectionUse], pieces: Pieces) -> list[GroupLoss]:
    """Every group that has tokens, by grouping and group.

    Args:
        use: by direction, in the order in which directions and languages are to come.
        pieces: the vocabulary, ranked.
    """
    every = [of.predicted for of in use.values()]
    ids, nll = (np.concatenate([getattr(of, key) for of in every]) for key in ("ids_T", "nll_T"))
    place = np.concatenate([_places(of) for of in every])
    direction = np.repeat(np.arange(len(use)), [len(of.ids_T) for of in every])
    languages = list(dict.fromkeys(language_of("decoder", name) for name in use))
    language_of_direction = np.array([languages.index(language_of("decoder", name)) for name in use])
    positions = [str(number + 1) for number in range(int(place.max(initial=-1)) + 1)]
    return [
        *_grouped("all", ["all"], np.zeros(len(ids), np.int64), nll),
        *_grouped("direction", list(use), direction, nll),
        *_grouped("language", languages, language_of_direction[direction], nll),
        *_grouped("frequency", pieces.bands, pieces.band_V[ids], nll),
        *_grouped("kind", KINDS, pieces.kind_V[ids], nll),
        *_grouped("position", positions, place, nll),
    ]


def _places(of: PredictedTokens) -> Int64:
    """The position of each token in its sentence, from 0."""
    first_N = np.cumsum(of.length_N) - of.length_N
    return np.arange(len(of.ids_T)) - np.repeat(first_N, of.length_N)


def _grouped(by: str, names: Sequence[str], label_T: Int64, nll_T: NDArray[np.float32]) -> Iterator[GroupLoss]:
    """Means by label; tokens with a label below 0 are left out."""
    known = label_T >= 0
    tokens_G = np.bincount(label_T[known], minlength=len(names))
    nll_G = np.bincount(label_T[known], nll_T[known].astype(np.float64), len(names))
    for name, tokens, nll in zip(names, tokens_G.tolist(), nll_G.tolist(), strict=True):
        if tokens:
            yield GroupLoss(by, name, tokens, nll / tokens)
