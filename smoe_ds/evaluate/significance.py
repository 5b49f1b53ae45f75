"""Whether one system's translations score otherwise than another's by more than chance: sacreBLEU's paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smoe_ds.evaluate.metrics import Metrics

FEW = 100
"""Sentences below which the tests say little: with very few, there is hardly a resample that differs from the text."""


@dataclass(frozen=True)
class Paired:
    """A system beside another one, which translated the same sentences.

    Attributes:
        bleu: BLEU of the other one.
        chrf: chrF++ of the other one.
        bleu_bootstrap: p of the difference in BLEU, by paired bootstrap; two-sided, as all.
        bleu_randomization: the same by approximate randomisation.
        chrf_bootstrap: p of the difference in chrF++, by paired bootstrap.
        chrf_randomization: the same by approximate randomisation.

    Source: Koehn (2004), and Riezler and Maxwell (2005), as sacreBLEU has them.
    """

    bleu: float
    chrf: float
    bleu_bootstrap: float
    bleu_randomization: float
    chrf_bootstrap: float
    chrf_randomization: float


def paired_tests(
    metrics: Metrics,
    hypotheses: Sequence[str],
    others: Sequence[str],
    references: Sequence[str],
    resamples: int,
    trials: int,
) -> Paired:
    """Tests translations against others of the same sentences. The same texts always give the same numbers.

    Args:
        metrics: how both are scored.
        hypotheses: of the system.
        others: of the other one.
        references: of both.
        resamples: corpora that the bootstrap draws.
        trials: exchanges of sentences that approximate randomisation tries.
    """
    from sacrebleu.significance import PairedTest

    systems = [("other", list(others)), ("own", list(hypotheses))]
    scores, p = [], []
    for kind, number in (("bs", resamples), ("ar", trials)):
        _, results = PairedTest(systems, metrics.of_sacrebleu, [list(references)], kind, number)()
        _names, *of_metrics = results.values()
        scores = [float(other.score) for other, _ in of_metrics]
        # sacreBLEU counts only what is further off than the difference found; equal scores would be beyond chance.
        p += [float(own.p_value) if own.score != other.score else 1.0 for other, own in of_metrics]
    (bleu, chrf), (bleu_bootstrap, chrf_bootstrap, bleu_randomization, chrf_randomization) = scores, p
    return Paired(bleu, chrf, bleu_bootstrap, bleu_randomization, chrf_bootstrap, chrf_randomization)
