"""One window of the training stream: which sentences it draws and how they are cut into micro-batches.

A window is a pure function of the order's settings, the window's number and how many sentences each direction has given
before. Only lengths are read here, those of the drawn sentences alone; token ids are read when a batch is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smoe_ds.data.batch import Batch, collate
from smoe_ds.data.framing import Framing
from smoe_ds.data.mixture import draw_counts, mixture_shares
from smoe_ds.data.packing import Packing, pack
from smoe_ds.data.ragged import Int64, Ragged, RaggedBuffer
from smoe_ds.data.seeding import seeded_key
from smoe_ds.data.sentences import SentencePairs
from smoe_ds.data.sorting import stable_order
from smoe_ds.data.upcoming import Upcoming
from smoe_ds.errors import DataError

_SCAN_CHUNK = 1 << 20


@dataclass(frozen=True)
class OrderSettings:
    """All that the global sequence of micro-batches depends on, besides the corpus."""

    seed: int
    temperature: float
    max_tokens: int
    window: int
    max_positions: int
    framing: Framing

    def belongs_to(self) -> dict[str, Any]:
        """What a saved position must agree with, as JSON."""
        of_framing = {"source_language_token": self.framing.source, "special_tokens_tgt": self.framing.special_tgt}
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "framing"} | of_framing


@dataclass(frozen=True)
class Window:
    """Drawn sentences, N of them that fit, in M micro-batches.

    Attributes:
        direction: int64 [N], number of the direction.
        sentence: int64 [N], number of the sentence within its direction.
        packing: micro-batches of places in the two arrays above.
        num_src_tokens: int64 [M], source tokens of each micro-batch, special tokens included, padding not.
        num_tgt_tokens: int64 [M], target tokens, likewise.
        num_padded_tokens: tokens of all micro-batches, padding included.
        drawn: int64 [D], sentences drawn from each direction, skipped ones included.
        skipped: int64 [D], those that were too long.
    """

    direction: Int64
    sentence: Int64
    packing: Packing
    num_src_tokens: Int64
    num_tgt_tokens: Int64
    num_padded_tokens: int
    drawn: Int64
    skipped: Int64


@dataclass(frozen=True)
class Reading:
    """The ids of some micro-batches, N sentences in M of them.

    Attributes:
        direction: int64 [N], number of each sentence's direction, micro-batch after micro-batch.
        src: ids of the sources, N rows direction after direction.
        tgt: ids of the targets, likewise.
        place: int64 [N], row of each sentence in the two above.
        bounds: int64 [M + 1]; micro-batch m holds the sentences ``bounds[m]`` to ``bounds[m + 1] - 1``.
    """

    direction: Int64
    src: Ragged
    tgt: Ragged
    place: Int64
    bounds: Int64


class Directions:
    """The directions of a stream: their sentences, sizes, shares of the mixture and language tokens.

    Args:
        sentences: direction -> sentence pairs.
        language_ids: language -> id of its token.
        settings: what the order depends on.

    Raises:
        DataError: a direction without sentences, or whose target language has no token; no direction at all.
    """

    def __init__(
        self, sentences: Mapping[str, SentencePairs], language_ids: Mapping[str, int], settings: OrderSettings
    ) -> None:
        check_directions(sentences)
        self.settings = settings
        self.names = tuple(sorted(sentences))
        self.pairs = [sentences[name] for name in self.names]
        self.sizes = np.array([len(pairs) for pairs in self.pairs], dtype=np.int64)
        self.tgt_languages = _tokens({name: sentences[name].tgt_language for name in self.names}, language_ids)
        self.src_languages = self.tgt_languages
        if settings.framing.names_source_language:
            self.src_languages = _tokens({name: sentences[name].src_language for name in self.names}, language_ids)
        self.shares = mixture_shares(self.sizes.tolist(), settings.temperature)
        by_pair = sorted(range(len(self.names)), key=lambda number: sorted(self.names[number].split("-")))
        self._pair_first = np.argsort(by_pair)  # place of each direction if both of a pair lie side by side
        keys = np.array([seeded_key(settings.seed, "order", name) for name in self.names], dtype=np.uint64)
        self._upcoming = Upcoming(self.pairs, keys)

    def draw(self, window: int, drawn_before: Int64) -> Window:
        """The window of the given number.

        Args:
            window: its number, from 0.
            drawn_before: int64 [D], sentences each direction has given in all windows before.
        """
        settings = self.settings
        drawn = draw_counts(self.shares, settings.window, seed=settings.seed, window=window)
        direction = np.repeat(np.arange(len(drawn)), drawn)
        sentence, src_pieces, tgt_pieces = self._upcoming.take(drawn_before, drawn)
        src_lengths, tgt_lengths = self._with_special_tokens(src_pieces, tgt_pieces)
        skipped = np.zeros_like(drawn)
        fits = self._fits(src_lengths, tgt_lengths)
        if not fits.all():
            skipped = np.bincount(direction[~fits], minlength=len(drawn))
            direction, sentence = direction[fits], sentence[fits]
            src_lengths, tgt_lengths = src_lengths[fits], tgt_lengths[fits]
        packing = pack(src_lengths, tgt_lengths, settings.max_tokens, settings.seed, "pack", window)
        src, tgt = packing.sizes(src_lengths), packing.sizes(tgt_lengths)
        return Window(
            direction=direction,
            sentence=sentence,
            packing=packing,
            num_src_tokens=src.tokens,
            num_tgt_tokens=tgt.tokens,
            num_padded_tokens=src.padded + tgt.padded,
            drawn=drawn,
            skipped=skipped,
        )

    def read(self, window: Window, numbers: Sequence[int]) -> Reading:
        """Reads micro-batches of a window together, direction by direction: that pays off where they are many.

        Raises:
            DataError: a file is damaged.
        """
        rows = [window.packing[number] for number in numbers]
        every = np.concatenate(rows)
        direction, sentence = window.direction[every], window.sentence[every]
        order = stable_order(sentence)  # upwards in every file, and both directions of a pair: pages are mapped once
        order = order[stable_order(self._pair_first[direction[order]])]
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        upwards = direction[order]
        starts = np.flatnonzero(np.diff(upwards, prepend=-1))
        parts = np.split(sentence[order], starts[1:])
        num_src, num_tgt = (
            int(tokens[list(numbers)].sum()) for tokens in (window.num_src_tokens, window.num_tgt_tokens)
        )
        src = RaggedBuffer(len(every), num_src - len(every) * self.settings.framing.special_src)
        tgt = RaggedBuffer(len(every), num_tgt - len(every) * self.settings.framing.special_tgt)
        for name, part in zip(upwards[starts].tolist(), parts, strict=True):
            src_part, tgt_part = self.pairs[name].read(part)
            src.add(src_part)
            tgt.add(tgt_part)
        return Reading(direction, src.ragged(), tgt.ragged(), place, np.cumsum([0, *map(len, rows)]))

    def batch(self, reading: Reading, number: int, *, index: int) -> Batch:
        """Micro-batch ``number`` of those that were read, numbered ``index`` in the global sequence."""
        rows = slice(reading.bounds[number], reading.bounds[number + 1])
        direction = reading.direction[rows]
        return collate(
            reading.src.take(reading.place[rows]),
            reading.tgt.take(reading.place[rows]),
            self.src_languages[direction],
            self.tgt_languages[direction],
            tuple([self.names[d] for d in direction.tolist()]),
            framing=self.settings.framing,
            index=index,
        )

    def require_usable(self) -> None:
        """Raises DataError if every sentence of every direction is too long; stops at the first that is not."""
        if any(fits.any() for pairs in self.pairs for fits in self._scan(pairs)):
            return
        raise DataError(
            f"directions {', '.join(self.names)}: every sentence pair is longer than max_positions "
            f"{self.settings.max_positions} on one side or than max_tokens {self.settings.max_tokens} on both; "
            "raise smoe.model.max_positions or smoe.data.max_tokens"
        )

    def too_long(self) -> Int64:
        """How many sentences of each direction are too long and never read, int64 [D]; looks at all lengths."""
        counts = [sum(int((~fits).sum()) for fits in self._scan(pairs)) for pairs in self.pairs]
        return np.array(counts, dtype=np.int64)

    def _scan(self, pairs: SentencePairs) -> Iterator[NDArray[np.bool_]]:
        """Which sentences fit, some at a time."""
        for start in range(0, len(pairs), _SCAN_CHUNK):
            chunk = np.arange(start, min(start + _SCAN_CHUNK, len(pairs)))
            yield self._fits(*self._with_special_tokens(pairs.src_lengths[chunk], pairs.tgt_lengths[chunk]))

    def _with_special_tokens(self, src: NDArray[Any], tgt: NDArray[Any]) -> tuple[Int64, Int64]:
        framing = self.settings.framing
        return np.add(src, framing.special_src, dtype=np.int64), np.add(tgt, framing.special_tgt, dtype=np.int64)

    def _fits(self, src_lengths: Int64, tgt_lengths: Int64) -> NDArray[np.bool_]:
        longest = np.maximum(src_lengths, tgt_lengths)
        fits = longest <= self.settings.max_positions
        if 2 * self.settings.max_positions > self.settings.max_tokens:
            fits &= src_lengths + tgt_lengths <= self.settings.max_tokens
        return fits


def _tokens(languages: Mapping[str, str], language_ids: Mapping[str, int]) -> Int64:
    """Id of the language's token of each direction, int64 [D].

    Raises:
        DataError: a language has none.
    """
    for name, language in languages.items():
        if language not in language_ids:
            raise DataError(
                f"direction {name}: the tokenizer has no token for language {language}, "
                f"only for {', '.join(sorted(language_ids))}; prepare the corpus with this language"
            )
    return np.array([language_ids[language] for language in languages.values()], dtype=np.int64)


def check_directions(sentences: Mapping[str, SentencePairs]) -> None:
    """A stream needs a direction, and each at least one sentence pair.

    Raises:
        DataError: says which, and the remedy.
    """
    if not sentences:
        raise DataError("smoe.data.directions: no direction to read; name at least one of the prepared corpus")
    for name, pairs in sorted(sentences.items()):
        if not len(pairs):
            raise DataError(f"direction {name}: has no sentence pairs; leave it out of smoe.data.directions")
