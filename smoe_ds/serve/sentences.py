"""A text as sentences and what stands between them; put together again, paragraphs and line breaks are as they were.

Line breaks always end a sentence. Within a line, sentencex (Wikimedia) finds the ends; it knows the full stops of many
scripts and the abbreviations of some languages. Limits: an abbreviation that it does not know ends a sentence where a
capital follows; scripts without full stops, such as Thai, are not split; a sentence that is wrapped over lines is
translated in parts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from smoe_ds.data.tidy import REMOVED, VISIBLE

_LINE_BREAK = re.compile(r"(\r\n|\n|\r)")
_UNSPACED = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
"""Characters of scripts that put no space between sentences: Chinese and Japanese, full-width punctuation."""
_RULES = {
    "amh": "am", "ara": "ar", "arb": "ar", "asm": "as", "ben": "bn", "bul": "bg", "cat": "ca", "ces": "cs",
    "dan": "da", "deu": "de", "ell": "el", "eng": "en", "est": "et", "fas": "fa", "fin": "fi", "guj": "gu",
    "hin": "hi", "hye": "hy", "ita": "it", "jpn": "ja", "kan": "kn", "kaz": "kk", "mal": "ml", "mar": "mr",
    "mya": "my", "nld": "nl", "ori": "or", "pan": "pa", "pol": "pl", "por": "pt", "rus": "ru", "slk": "sk",
    "spa": "es", "tam": "ta", "tel": "te", "ukr": "uk", "urd": "ur", "zho": "zh",
}  # fmt: skip
"""sentencex names the languages whose rules it has by their codes of two letters (ISO 639-1)."""


@dataclass(frozen=True)
class SplitText:
    """A text in parts: ``gaps[0] + sentences[0] + gaps[1] + ... + gaps[-1]`` is the text.

    Attributes:
        sentences: without line breaks or spaces around them; each has something visible.
        gaps: what stands before each sentence, and after the last one.
    """

    sentences: tuple[str, ...]
    gaps: tuple[str, ...]

    def joined(self, translations: Sequence[str]) -> str:
        """The translations in place of the sentences.

        Args:
            translations: one for each sentence.
        """
        parts = [self.gaps[0]]
        for number, (translation, gap) in enumerate(zip(translations, self.gaps[1:], strict=True), start=1):
            following = translations[number] if number < len(translations) else ""
            between = number < len(translations) and not _LINE_BREAK.search(gap)
            parts += [translation, _space(gap, translation, following) if between else gap]
        return "".join(parts)


def split_text(text: str, language: str | None = None, *, sentences: bool = True) -> SplitText:
    """Splits a text; characters that never reach the model, such as control characters, are left out before.

    Args:
        text: any text.
        language: its language (ISO 639), whose abbreviations are known to sentencex; None: unknown.
        sentences: whether to split lines too.
    """
    found: list[str] = []
    gaps = [""]
    for number, line in enumerate(_LINE_BREAK.split(REMOVED.sub("", text))):
        if number % 2:  # the line breaks
            gaps[-1] += line
            continue
        for part in _segments(line, language) if sentences else [line]:
            sentence = part.strip()
            if not VISIBLE.search(sentence):
                gaps[-1] += part
                continue
            before, _, after = part.partition(sentence)
            gaps[-1] += before
            found.append(sentence)
            gaps.append(after)
    return SplitText(tuple(found), tuple(gaps))


def _segments(line: str, language: str | None) -> list[str]:
    from sentencex import segment

    return list(segment(_RULES.get(language or "", language or "en"), line))


def _space(gap: str, before: str, after: str) -> str:
    """What stands between two translations in a line: the target's script decides, not the source's."""
    if _UNSPACED.search(before[-2:]) and _UNSPACED.match(after[:1]):
        return ""
    return gap or " "
