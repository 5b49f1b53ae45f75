"""BLEU and chrF++ by sacreBLEU, with the signatures that make a score comparable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smoe_ds.evaluate.tokenizers import SUBWORDS, USUAL, check_tokenizer, fitting_tokenizer

CHRF = "chrF++"
"""The name of the other metric than BLEU."""


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


class Metrics:
    """Scores corpora with one choice of BLEU's tokenizer.

    Args:
        tokenize: one of `smoe_ds.evaluate.tokenizers.TOKENIZERS`; a subword one makes the score spBLEU.

    Attributes:
        tokenizer: the choice.
        bleu_name: ``BLEU`` or ``spBLEU``.

    Raises:
        DataError: the tokenizer needs a model or package that is not on this machine. It is never downloaded here.
    """

    def __init__(self, tokenize: str = USUAL) -> None:
        check_tokenizer(tokenize)
        from sacrebleu import metrics

        # force: no warning that hypotheses look tokenised, which untrained output often does.
        self._bleu, self._chrf = metrics.BLEU(tokenize=tokenize, force=True), metrics.CHRF(word_order=2)
        self.tokenizer = tokenize
        self.bleu_name = "spBLEU" if tokenize in SUBWORDS else "BLEU"
        self.score([""], [""])  # the signature names the number of references, known from the first corpus on

    def score(self, hypotheses: Sequence[str], references: Sequence[str]) -> Score:
        """Score a corpus against one reference per sentence."""
        bleu = self._bleu.corpus_score(list(hypotheses), [list(references)])
        chrf = self._chrf.corpus_score(list(hypotheses), [list(references)])
        return Score(bleu.score, chrf.score, bleu.sys_len / bleu.ref_len if bleu.ref_len else 0.0)

    @property
    def signatures(self) -> dict[str, str]:
        """sacreBLEU's signature of each metric."""
        return {self.bleu_name: str(self._bleu.get_signature()), CHRF: str(self._chrf.get_signature())}


def metrics_for(language: str, tokenize: str | None = None) -> Metrics:
    """Scores for translations into a language.

    Args:
        language: its code.
        tokenize: BLEU's tokenizer whatever the language; None: the one that fits it, see `fitting_tokenizer`.

    Raises:
        DataError: the tokenizer asked for is not on this machine.
    """
    return Metrics(tokenize or fitting_tokenizer(language))
