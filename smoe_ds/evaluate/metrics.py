"""BLEU and chrF++ by sacreBLEU, with the signatures that make a score comparable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smoe_ds.errors import DataError

TOKENIZERS = ("13a", "intl", "char", "zh", "flores200")
_SUBWORD_TOKENIZERS = ("flores200",)
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
        tokenize: one of `TOKENIZERS`; ``flores200`` makes the score spBLEU.

    Raises:
        DataError: the tokenizer needs a model that is not on this machine. It is never downloaded here.
    """

    def __init__(self, tokenize: str = "13a") -> None:
        if tokenize in _SUBWORD_TOKENIZERS:
            check_tokenizer_model(tokenize)
        from sacrebleu import metrics

        # force: no warning that hypotheses look tokenised, which untrained output often does.
        self._bleu, self._chrf = metrics.BLEU(tokenize=tokenize, force=True), metrics.CHRF(word_order=2)
        self.bleu_name = "spBLEU" if tokenize in _SUBWORD_TOKENIZERS else "BLEU"
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


def check_tokenizer_model(tokenize: str) -> None:
    """Refuses a tokenizer whose SentencePiece model sacreBLEU would have to download.

    Raises:
        DataError: names the file that is missing and where it comes from.
    """
    from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
    from sacrebleu.utils import SACREBLEU_DIR

    url = SPM_MODELS[tokenize]["url"]
    model = Path(SACREBLEU_DIR) / "models" / Path(url).name
    if not model.is_file():
        raise DataError(
            f"{model}: missing, and --tokenize {tokenize} needs it; download it from {url} to that place, "
            "or use --tokenize 13a"
        )
