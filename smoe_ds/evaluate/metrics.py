"""BLEU and chrF++ by sacreBLEU, with the signatures that make a score comparable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smoe_ds.evaluate.tokenizers import SUBWORDS, USUAL, check_tokenizer, fitting_tokenizer

CHRF = "chrF++"
"""The name of the other metric than BLEU."""
SPBLEU = "spBLEU"
"""The name of BLEU with a subword tokenizer."""
SPBLEU_TOKENIZER = "flores200"
"""The one of spBLEU beside BLEU."""


@dataclass(frozen=True)
class Score:
    """Corpus scores, 0 to 100.

    Attributes:
        bleu: BLEU.
        chrf: chrF++.
        length_ratio: tokens of the hypotheses over tokens of the references, in BLEU's tokens.
    """

    bleu: float
    chrf: float
    length_ratio: float


@dataclass(frozen=True)
class Confidence:
    """How sure a corpus score is: half the width of its 95 % interval, by bootstrap over the sentences.

    Attributes:
        bleu: of BLEU.
        chrf: of chrF++.
        resamples: corpora that were drawn.

    Source: Koehn (2004), as sacreBLEU has it.
    """

    bleu: float
    chrf: float
    resamples: int


class Metrics:
    """Scores corpora with one choice of BLEU's tokenizer.

    Args:
        tokenize: one of `smoe_ds.evaluate.tokenizers.TOKENIZERS`; a subword one makes the score spBLEU.
        spbleu: whether spBLEU is measured beside it too, unless it is spBLEU itself.

    Attributes:
        tokenizer: the choice.
        bleu_name: ``BLEU`` or ``spBLEU``.
        signatures: sacreBLEU's signature of each metric, BLEU's first.

    Raises:
        DataError: the tokenizer needs a model or package that is not on this machine. It is never downloaded here.
    """

    def __init__(self, tokenize: str = USUAL, *, spbleu: bool = False) -> None:
        check_tokenizer(tokenize)
        from sacrebleu import metrics

        # force: no warning that hypotheses look tokenised, which untrained output often does.
        self._bleu, self._chrf = metrics.BLEU(tokenize=tokenize, force=True), metrics.CHRF(word_order=2)
        self._spbleu = None
        self.tokenizer = tokenize
        self.bleu_name = SPBLEU if tokenize in SUBWORDS else "BLEU"
        named = {self.bleu_name: self._bleu, CHRF: self._chrf}
        if spbleu and tokenize not in SUBWORDS:
            check_tokenizer(SPBLEU_TOKENIZER)
            named[SPBLEU] = self._spbleu = metrics.BLEU(tokenize=SPBLEU_TOKENIZER, force=True)
        for metric in named.values():  # a signature names the number of references, known from the first corpus on
            metric.corpus_score([""], [[""]])
        self.signatures = {name: str(metric.get_signature()) for name, metric in named.items()}

    def score(self, hypotheses: Sequence[str], references: Sequence[str]) -> Score:
        """Score a corpus against one reference per sentence."""
        bleu = self._bleu.corpus_score(list(hypotheses), [list(references)])
        chrf = self._chrf.corpus_score(list(hypotheses), [list(references)])
        return Score(bleu.score, chrf.score, bleu.sys_len / bleu.ref_len if bleu.ref_len else 0.0)

    def confidence(self, hypotheses: Sequence[str], references: Sequence[str], resamples: int) -> Confidence:
        """How sure the score of a corpus is. The same texts always give the same numbers.

        Args:
            hypotheses: translations.
            references: one for each.
            resamples: corpora that are drawn.
        """
        from sacrebleu.significance import PairedTest

        systems = [("own", list(hypotheses))]
        _, results = PairedTest(systems, self.of_sacrebleu, [list(references)], "bs", resamples)()
        _names, (bleu,), (chrf,) = results.values()
        return Confidence(float(bleu.ci), float(chrf.ci), resamples)

    def spbleu(self, hypotheses: Sequence[str], references: Sequence[str]) -> float | None:
        """spBLEU beside BLEU; None where that was not asked for, or BLEU is it."""
        if self._spbleu is None:
            return None
        return float(self._spbleu.corpus_score(list(hypotheses), [list(references)]).score)

    def counts(self, hypotheses: Sequence[str], references: Sequence[str]) -> NDArray[np.int64]:
        """What BLEU and chrF++ are computed from, in this order: a row for each sentence [sentences, counts].

        Args:
            hypotheses: translations.
            references: one for each.
        """
        found = [m._extract_corpus_statistics(list(hypotheses), [list(references)]) for m in (self._bleu, self._chrf)]
        return np.concatenate([np.array(of, np.int64).reshape(len(hypotheses), -1) for of in found], axis=1)

    @property
    def of_sacrebleu(self) -> dict[str, Any]:
        """BLEU and chrF++, in this order, as sacreBLEU's own objects for its tests of significance."""
        return {self.bleu_name: self._bleu, CHRF: self._chrf}


def metrics_for(language: str, tokenize: str | None = None, *, spbleu: bool = False) -> Metrics:
    """Scores for translations into a language.

    Args:
        language: its code.
        tokenize: BLEU's tokenizer whatever the language; None: the one that fits it, see `fitting_tokenizer`.
        spbleu: see `Metrics`.

    Raises:
        DataError: the tokenizer asked for is not on this machine.
    """
    return Metrics(tokenize or fitting_tokenizer(language), spbleu=spbleu)
