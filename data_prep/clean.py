"""The filters that look at one sentence pair at a time; what looks at the whole corpus is in `selection`."""

from __future__ import annotations

from collections import Counter

from data_prep.normalise import tidy
from data_prep.readers.notes import Notes
from data_prep.readers.sides import Side, Unusable
from data_prep.spec import Clean

DROP_REASONS = {
    "invalid_utf8": "a side is not valid UTF-8",
    "empty": "a side is empty or invisible",
    "too_long": "a side exceeds max_words or max_characters",
    "too_short": "fewer than min_words words on the pivot's side",
    "length_ratio": "one side is more than max_ratio times as long as the other, in characters",
    "copy": "both sides are equal, with copies: drop",
    "wrong_script": "a side is in another script than most of its language, with wrong_script: drop",
    "duplicate": "the same pair occurred before in this pair of languages",
    "held_out": "a side equals a held-out sentence of any pair",
    "too_many_pieces": "a side exceeds max_pieces SentencePiece pieces, or has none",
}
"""Every reason to drop a pair, in the order the filters run; a pair counts under the first that applies."""

NOTICES = {
    "byte_order_mark": "UTF-8 byte order marks removed at the start of files",
    "crlf": "lines that ended in CRLF",
    "control_characters": "pairs with NUL or control characters, removed",
    "copies": "pairs with equal sides",
    "other_script": "pairs with a side in another script than most of its language",
    "swapped": "pairs whose sides look exchanged, by the words of the rest of the corpus",
}
"""What is counted without dropping anything."""


class Cleaner:
    """Applies the filters of a specification to the pairs of one text and counts what happens."""

    def __init__(self, clean: Clean, key_side: int, *, held_out: bool) -> None:
        """Sets up the filters.

        Args:
            clean: the specification's limits.
            key_side: 0 or 1, the side whose words ``min_words`` counts.
            held_out: apply only the filters that sort out what cannot be used at all.
        """
        self._clean = clean
        self._key_side = key_side
        self._held_out = held_out
        self.num_read = 0
        self.dropped: Counter[str] = Counter()
        self.notes = Notes()

    def __call__(self, sides: tuple[Side, Side]) -> tuple[str, str] | None:
        """The cleaned pair, or None if it is dropped."""
        self.num_read += 1
        reason, pair = self._judge(*sides)
        if reason:
            self.dropped[reason] += 1
            return None
        return pair

    def _judge(self, first: Side, second: Side) -> tuple[str, tuple[str, str]]:
        nothing = ("", "")
        if isinstance(first, Unusable) or isinstance(second, Unusable):
            reasons = {side.value for side in (first, second) if isinstance(side, Unusable)}
            return ("invalid_utf8" if "invalid_utf8" in reasons else "too_long"), nothing
        limit = self._clean.max_characters
        if len(first) > 20 * limit or len(second) > 20 * limit:  # not worth tidying
            return "too_long", nothing
        src, src_control = tidy(first)
        tgt, tgt_control = tidy(second)
        if not src or not tgt:
            return "empty", nothing
        if len(src) > limit or len(tgt) > limit or max(src.count(" "), tgt.count(" ")) >= self._clean.max_words:
            return "too_long", nothing
        reason = "" if self._held_out else self._judge_quality(src, tgt)
        if not reason:
            self.notes.counts["control_characters"] += src_control or tgt_control
            self.notes.counts["copies"] += src == tgt
        return reason, (src, tgt)

    def _judge_quality(self, src: str, tgt: str) -> str:
        clean = self._clean
        if (src, tgt)[self._key_side].count(" ") + 1 < clean.min_words:
            return "too_short"
        if clean.max_ratio is not None and max(len(src), len(tgt)) > clean.max_ratio * min(len(src), len(tgt)):
            return "length_ratio"
        if clean.copies == "drop" and src == tgt:
            return "copy"
        return ""
