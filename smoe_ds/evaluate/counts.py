"""What BLEU and chrF++ of translations are computed from, packed small, and approximate randomisation over it.

A direction's sentences are dealt out to at most `MOST` groups, the first to the first group, the second to the second
and so on; for each group the counts of its sentences are summed. These sums give the scores of any selection of groups.
Two systems are exchangeable sentence by sentence if neither is better, so group by group too, which makes the test an
exact one; with up to `MOST` sentences it is the usual one.

Letters: U groups, C counts (`BLEU` of BLEU, the others of chrF++), N trials.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smoe_ds.evaluate.metrics import Metrics

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
MOST = 200
BLEU = 2 + 2 * 4
"""Lengths of translation and reference; n-grams that match, and all, of each order."""
_CHRF = 3 * (6 + 2)  # of each order: n-grams of the translation, of the reference, and those that match
_BETA = 2


@dataclass(frozen=True)
class Counts:
    """The counts of a direction's translations.

    Attributes:
        text: digest of sources and references, see `smoe_ds.evaluate.held_out.HeldOut.digest`.
        signature: of BLEU and chrF++; only equal ones can be compared.
        sentences: number of them.
        packed: the sums of groups, in columns, compressed.
    """

    text: str
    signature: str
    sentences: int
    packed: str

    @staticmethod
    def of(metrics: Metrics, hypotheses: Sequence[str], references: Sequence[str], text: str) -> Counts:
        """Counts translations.

        Args:
            metrics: how they are scored.
            hypotheses: translations, at least one.
            references: one for each.
            text: digest of the text.
        """
        counts = metrics.counts(hypotheses, references)
        groups = min(len(counts), MOST)
        sums_UC = np.zeros((groups, counts.shape[1]), np.int64)
        np.add.at(sums_UC, np.arange(len(counts)) % groups, counts)
        packed = zlib.compress(np.ascontiguousarray(sums_UC.T, "<u4").tobytes(), 9)
        signature = " ".join(metrics.signatures[name] for name in metrics.of_sacrebleu)
        return Counts(text, signature, len(counts), base64.b85encode(packed).decode())

    @property
    def sums_UC(self) -> Int64:
        """Counts of each group.

        Raises:
            ValueError: they are damaged.
        """
        try:
            values = np.frombuffer(zlib.decompress(base64.b85decode(self.packed)), "<u4")
        except zlib.error as error:
            raise ValueError(str(error)) from error
        return values.reshape(BLEU + _CHRF, -1).T.astype(np.int64)

    def comparable(self, other: Counts) -> bool:
        """Whether both are of the same text, scored in the same way."""
        return (self.text, self.signature) == (other.text, other.signature)


@dataclass(frozen=True)
class Tested:
    """The difference between two systems in one direction, over the runs of both.

    Attributes:
        bleu: BLEU of the one minus that of the other, mean over the runs.
        chrf: the same of chrF++.
        bleu_N: the same in each trial.
        chrf_N: likewise.
    """

    bleu: float
    chrf: float
    bleu_N: Float64
    chrf_N: Float64


def randomised(pairs: Sequence[tuple[Counts, Counts]], trials: int, seed: int) -> Tested:
    """Exchanges the translations of groups of sentences between two systems at random, all runs of them alike.

    Args:
        pairs: one run of each, comparable; at least one pair, all of the same text.
        trials: how often.
        seed: of the draws.
    """
    keep_NU = np.random.default_rng(seed).integers(2, size=(trials, len(pairs[0][0].sums_UC))).astype(np.float64)
    found, drawn = [], []
    for one, other in pairs:
        one_UC, other_UC = one.sums_UC.astype(np.float64), other.sums_UC.astype(np.float64)
        found.append(_difference(one_UC.sum(0)[None], other_UC.sum(0)[None]))
        total_C, kept_NC = one_UC.sum(0) + other_UC.sum(0), keep_NU @ (one_UC - other_UC) + other_UC.sum(0)
        drawn.append(_difference(kept_NC, total_C - kept_NC))
    bleu, chrf = (float(np.mean([of[number][0] for of in found])) for number in (0, 1))
    bleu_N, chrf_N = (np.mean([of[number] for of in drawn], axis=0) for number in (0, 1))
    return Tested(bleu, chrf, bleu_N, chrf_N)


def p_value(found: float, drawn_N: Float64) -> float:
    """Share of the trials, the one found included, that differ by as much: two-sided."""
    return float((1 + (np.abs(drawn_N) >= abs(found) - 1e-9).sum()) / (1 + len(drawn_N)))


def _difference(one_NC: Float64, other_NC: Float64) -> tuple[Float64, Float64]:
    return bleu_of(one_NC) - bleu_of(other_NC), chrf_of(one_NC) - chrf_of(other_NC)


def bleu_of(counts_NC: Float64) -> Float64:
    """BLEU of corpora by their counts, as sacreBLEU computes it (smoothing ``exp``)."""
    length_N, reference_N = counts_NC[:, 0], counts_NC[:, 1]
    right_N4, all_N4 = counts_NC[:, 2:6], counts_NC[:, 6:BLEU]
    zero_N4 = right_N4 == 0
    halved_N4 = np.where(zero_N4, 0.5 ** np.cumsum(zero_N4, axis=1), right_N4)
    defined_N = (all_N4 > 0).all(axis=1) & (right_N4.sum(axis=1) > 0)
    precision_N = np.exp(np.mean(np.log(halved_N4 / np.maximum(all_N4, 1)), axis=1))
    short_N = np.exp(np.minimum(1 - reference_N / np.maximum(length_N, 1), 0))
    return np.where(defined_N, 100 * short_N * precision_N, 0.0)


def chrf_of(counts_NC: Float64) -> Float64:
    """chrF++ of corpora by their counts, as sacreBLEU computes it."""
    own_NO, reference_NO, match_NO = (counts_NC[:, BLEU + place :: 3] for place in range(3))
    there_NO = (own_NO > 0) & (reference_NO > 0)
    orders_N = np.maximum(there_NO.sum(axis=1), 1)
    precision_N = (there_NO * match_NO / np.maximum(own_NO, 1)).sum(axis=1) / orders_N
    recall_N = (there_NO * match_NO / np.maximum(reference_NO, 1)).sum(axis=1) / orders_N
    weighed_N = _BETA**2 * precision_N + recall_N
    return 100 * (1 + _BETA**2) * precision_N * recall_N / np.where(weighed_N > 0, weighed_N, 1)
