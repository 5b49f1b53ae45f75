"""The filters that look at one sentence pair at a time; what looks at the whole corpus is in `duplicates` and `splits`.

Pairs come in batches, and a filter is a comparison of arrays: see `features`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, compress
from typing import Any

import numpy as np

from data_prep.cleaning.examples import Examples
from data_prep.languages.codes import usual_scripts
from data_prep.languages.scripts import script_number
from data_prep.readers.block import Block
from data_prep.readers.side_lines import INNER_END, UNUSABLE, line_ends, lines_of, sides_of
from data_prep.readers.sides import Unusable
from data_prep.spec.sections import Clean
from data_prep.text.entities import has_entity, unescape
from data_prep.text.features import Features, features_of
from smoe_ds.data.seeding import mix64

DROP_REASONS = {
    "invalid_utf8": "a side is not valid UTF-8, or not valid in the encoding that its file names",
    "forbidden_character": "a side or its unit has a character that XML forbids",
    "unknown_entity": "its unit has an entity that neither XML nor HTML knows, such as &company;",
    "empty": "a side is empty or invisible",
    "too_long": "a side exceeds max_words or max_characters",
    "control_characters": "a side has NUL or other control characters, and control_characters is drop",
    "entities": "a side has escaped characters such as &amp; or &#39;, and entities is drop",
    "too_short": "the pivot's side has fewer than min_words words",
    "no_letters": "a side has only numbers, punctuation or symbols, and no_letters is drop",
    "length_ratio": "one side is more than max_ratio times as long as the other",
    "copy": "both sides are equal, and copies is drop or it is validation or test text",
    "wrong_script": "a side has too few letters in a script of its language, and wrong_script is drop",
    "duplicate": "the same two sentences occurred before, where duplicates_across looks for them",
    "near_duplicate": "differs from an earlier pair only in case, punctuation, spacing, width of letters and numbers",
    "held_out": "a side is a held-out sentence of some pair, apart from case, punctuation, spacing and width",
    "too_many_pieces": "a side has more than max_pieces SentencePiece pieces, or none",
}
"""Every reason to drop a pair, in the order the filters run; a pair counts under the first that applies."""

NOTICES = {
    "byte_order_mark": "UTF-8 byte order marks that were removed at the start of files",
    "crlf": "lines that ended in CRLF",
    "html_entities": "entities of HTML in translation memories, such as &nbsp;, that were read as their characters",
    "plural_forms": "plural messages left out: the catalog does not tell which form is for one and which for many",
    "control_characters": "pairs from which NUL or other control characters were removed",
    "entities": "pairs with escaped characters such as &amp; or &#39;; clean.entities can unescape or drop them",
    "entities_unescaped": "pairs in which escaped characters such as &amp; or &#39; were unescaped",
    "copies": "pairs with equal sides",
    "duplicates": "pairs that occurred before",
    "near_duplicates": "pairs that occurred before in nearly the same form",
    "other_script": "pairs with a side that has too few letters in a script of its language",
    "swapped": "pairs whose sides look exchanged, judging by the words of all the text and of the languages",
}
"""What is counted without dropping anything."""

SRC_KEY, TGT_KEY, PAIR, NEAR = range(4)
"""Columns of the hashes of a pair."""
NUM_HASHES = 4
"""64-bit hashes a sentence pair: 32 bytes, on which all that concerns the whole corpus is decided."""

_BATCH = 1024  # large enough for arrays to pay off, small enough for the processor's cache
_BATCH_BYTES = 1 << 20
_NUMBER = {reason: number for number, reason in enumerate(DROP_REASONS, 1)}


@dataclass
class Cleaned:
    """The pairs that were kept, n of them.

    Attributes:
        lines: both sides in UTF-8, n each.
        hashes: uint64 [n, 4]: key of the first side and of the second; the exact pair and the nearly equal pair,
            whichever side is first.
        scripts: `script_number` of each side of a language that is not known, else 0; uint8 [n, 2].
    """

    lines: tuple[list[bytes], list[bytes]]
    hashes: np.ndarray
    scripts: np.ndarray


class Cleaner:
    """Applies the filters of a specification to the pairs of one text and counts what happens."""

    def __init__(
        self, clean: Clean, languages: tuple[str, str], key_side: int, *, held_out: bool, seed: int = 0
    ) -> None:
        """Sets up the filters.

        Args:
            clean: the specification's limits.
            languages: the pair's two languages.
            key_side: 0 or 1, the side whose words ``min_words`` counts.
            held_out: apply only the filters that sort out what cannot be used at all.
            seed: the specification's seed, which decides on the examples.
        """
        self._clean = clean
        self._scripts = tuple(usual_scripts(language) for language in languages)
        self._key_side = key_side
        self._held_out = held_out
        self._examples = Examples(seed)
        self._num_read = 0
        self._dropped: Counter[str] = Counter()
        self._noticed: Counter[str] = Counter()

    def __call__(self, block: Block) -> Cleaned:
        """Cleans sentence pairs; the result does not depend on how a text is cut."""
        parts = [part for batch in block.parts(_BATCH) if batch.number for part in self._clean_batch(batch)]
        lines = tuple(list(chain.from_iterable(part.lines[side] for part in parts)) for side in (0, 1))
        return Cleaned(
            lines=(lines[0], lines[1]),
            hashes=np.concatenate([np.empty((0, NUM_HASHES), np.uint64), *(part.hashes for part in parts)]),
            scripts=np.concatenate([np.empty((0, 2), np.uint8), *(part.scripts for part in parts)]),
        )

    def counts(self) -> dict[str, Any]:
        """What happened so far: pairs ``read``, ``dropped`` and ``noticed`` by name, and ``examples``."""
        return {
            "read": self._num_read,
            "dropped": dict(+self._dropped),
            "noticed": dict(+self._noticed),
            "examples": self._examples.ranked(),
        }

    def _clean_batch(self, batch: Block) -> Iterator[Cleaned]:
        """Cleans pairs together, or in halves if they hold too much text."""
        unusable = np.zeros(batch.number, np.uint8)
        first, second = (self._readable(lines, unusable) for lines in (batch.src, batch.tgt))
        if batch.number > 1 and len(first) + len(second) > _BATCH_BYTES:
            for half in batch.parts(-(-batch.number // 2)):
                yield from self._clean_batch(half)
            return
        escaped = np.zeros(batch.number, bool)
        first, second = (self._with_entities(lines, escaped) for lines in (first, second))
        share = self._clean.min_script_share
        src, tgt = features_of(first, self._scripts[0], share), features_of(second, self._scripts[1], share)
        reasons = self._judge(unusable, escaped, src, tgt)
        kept = reasons == 0
        self._count(batch, reasons)
        self._notice(src, tgt, kept, escaped)
        lines = tuple(list(compress(side.lines, kept.tolist())) for side in (src, tgt))
        yield Cleaned((lines[0], lines[1]), _pair_hashes(src, tgt)[kept], self._unknown_scripts(lines))

    def _readable(self, lines: bytes, unusable: np.ndarray) -> bytes:
        """One side of pairs as UTF-8.

        Where a side has no text or far too much, its line is empty and the pair's reason is put into ``unusable``.
        """
        limit = 20 * self._clean.max_characters  # what is longer is not worth looking at
        if UNUSABLE in lines or np.diff(line_ends(lines), prepend=-1).max() > limit:
            sides = list(sides_of(lines))
            for row, side in enumerate(sides):
                if isinstance(side, Unusable) or len(side) > limit:
                    reason = side.value if isinstance(side, Unusable) else "too_long"
                    unusable[row] = min(unusable[row] or 255, _NUMBER[reason])
                    sides[row] = ""
            lines = lines_of(sides)
        return lines.replace(INNER_END, b" ")  # which a line end inside a side becomes in any case

    def _with_entities(self, lines: bytes, escaped: np.ndarray) -> bytes:
        """One side of pairs, escaped characters as the specification wants them; where they are is put into a mask."""
        if b"&" not in lines or b";" not in lines:
            return lines
        texts = lines.split(b"\n")
        rows = [row for row, text in enumerate(texts) if b"&" in text and has_entity(text)]
        escaped[rows] = True
        if self._clean.entities == "unescape":
            for row in rows:
                texts[row] = unescape(texts[row])
        return b"\n".join(texts)

    def _judge(self, unusable: np.ndarray, escaped: np.ndarray, src: Features, tgt: Features) -> np.ndarray:
        """Number of the first reason to drop each pair, 0 to keep it, [N]."""
        clean = self._clean
        reasons = unusable.copy()

        def drop(reason: str, mask: np.ndarray) -> None:
            reasons[mask & (reasons == 0)] = _NUMBER[reason]

        drop("empty", (src.lengths == 0) | (tgt.lengths == 0))
        longest, most_words = np.maximum(src.lengths, tgt.lengths), np.maximum(src.words, tgt.words)
        drop("too_long", (longest > clean.max_characters) | (most_words > clean.max_words))
        if self._held_out:
            drop("copy", _copies(src, tgt))
            return reasons
        if clean.control_characters == "drop":
            drop("control_characters", src.control | tgt.control)
        if clean.entities == "drop":
            drop("entities", escaped)
        drop("too_short", (src, tgt)[self._key_side].words < clean.min_words)
        if clean.no_letters == "drop":
            drop("no_letters", ~(src.letters & tgt.letters))
        if clean.max_ratio is not None:
            wider, narrower = np.maximum(src.widths, tgt.widths), np.minimum(src.widths, tgt.widths)
            drop("length_ratio", wider > clean.max_ratio * narrower)
        if clean.copies == "drop":
            drop("copy", _copies(src, tgt))
        if clean.wrong_script == "drop":
            drop("wrong_script", src.foreign | tgt.foreign)
        return reasons

    def _count(self, batch: Block, reasons: np.ndarray) -> None:
        self._num_read += batch.number
        names = list(DROP_REASONS)
        rows = np.flatnonzero(reasons)
        dropped = [names[number - 1] for number in reasons[rows].tolist()]
        self._dropped.update(dropped)
        for reason, src, tgt in zip(dropped, *batch.take(rows), strict=True) if dropped else ():
            self._examples.add(reason, src, tgt)

    def _notice(self, src: Features, tgt: Features, kept: np.ndarray, escaped: np.ndarray) -> None:
        name = "entities_unescaped" if self._clean.entities == "unescape" else "entities"
        self._noticed[name] += int((escaped & kept).sum())
        self._noticed["control_characters"] += int(((src.control | tgt.control) & kept).sum())
        self._noticed["copies"] += int((_copies(src, tgt) & kept).sum())
        self._noticed["other_script"] += int(((src.foreign | tgt.foreign) & kept).sum())

    def _unknown_scripts(self, lines: Sequence[Sequence[bytes]]) -> np.ndarray:
        numbers = np.zeros((len(lines[0]), 2), np.uint8)
        for side, known in enumerate(self._scripts):
            if not known:
                numbers[:, side] = [script_number(line.decode("utf-8")) for line in lines[side]]
        return numbers


def _copies(src: Features, tgt: Features) -> np.ndarray:
    """Pairs with equal sides, bool [N]."""
    equal: np.ndarray = (src.checksums == tgt.checksums) & (src.keys == tgt.keys)
    return equal


def _pair_hashes(src: Features, tgt: Features) -> np.ndarray:
    """All hashes of pairs, uint64 [N, 4]."""
    near = _of_both(src.near_keys, tgt.near_keys)
    exact = _of_both(mix64(src.keys ^ src.checksums), mix64(tgt.keys ^ tgt.checksums))
    return np.stack([src.keys, tgt.keys, exact, near], axis=1)


def _of_both(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A hash of two hashes that does not depend on their order."""
    lower, higher = np.minimum(first, second), np.maximum(first, second)
    return mix64(mix64(lower) + higher)
