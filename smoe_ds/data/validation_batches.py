"""Fixed micro-batches of one direction's held-out sentences, dealt over the ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from smoe_ds.data.batch import Batch, empty_batch
from smoe_ds.data.framing import Framing
from smoe_ds.data.partition import rounds_of_all
from smoe_ds.data.sentences import SentencePairs
from smoe_ds.data.window import Directions, OrderSettings

if TYPE_CHECKING:
    from smoe_ds.config.data import DataConfig


class ValidationBatches:
    """The same batches at each iteration, in every run and, taken over all ranks, for every world size.

    Rank r of W reads batches r, W + r, 2 W + r ...; ranks for which nothing is left get empty batches, so that all
    make the same number of steps. Sentences too long for the model are left out, see :class:`TrainStream`.

    Args:
        sentences: held-out sentence pairs of the direction.
        language_ids: language -> id of its token.
        config: section ``smoe.data``.
        max_positions: longest source or target [tokens].
        rank: this process.
        world_size: processes among which the batches are dealt.
        max_batches: most batches over all ranks; None for all. A random choice, not the shortest sentences.

    Attributes:
        world_size: processes among which they are dealt.
        num_batches: batches over all ranks, empty ones not counted.
        num_src_tokens: source tokens of all ranks' batches.
        num_tgt_tokens: target tokens of all ranks' batches.
        num_sentences: sentences in all ranks' batches.
        num_available: sentences there are, those left out included.
        skipped: sentences left out as too long.

    Raises:
        DataError: no sentence, none short enough, or no token for the language.
    """

    def __init__(
        self,
        sentences: SentencePairs,
        language_ids: Mapping[str, int],
        config: DataConfig,
        *,
        max_positions: int,
        rank: int,
        world_size: int,
        max_batches: int | None = None,
    ) -> None:
        settings = OrderSettings(
            seed=0,  # one seed for all runs: their validation losses are compared
            temperature=1.0,
            max_tokens=config.max_tokens,
            window=len(sentences),  # one window of one direction is exactly one epoch
            max_positions=max_positions,
            framing=Framing.of(config),
        )
        self._directions = Directions({sentences.direction: sentences}, language_ids, settings)
        self._window = self._directions.draw(0, np.zeros(1, dtype=np.int64))
        if not len(self._window.packing):
            self._directions.require_usable()
        self._rank, self.world_size = rank, world_size
        packed = len(self._window.packing)
        self.num_batches = packed if max_batches is None else min(packed, max_batches)
        self.num_src_tokens = int(self._window.num_src_tokens[: self.num_batches].sum())
        self.num_tgt_tokens = int(self._window.num_tgt_tokens[: self.num_batches].sum())
        self.num_sentences = sum(len(self._window.packing[number]) for number in range(self.num_batches))
        self.num_available = len(sentences)
        self.skipped = int(self._window.skipped[0])

    def __len__(self) -> int:
        """Batches of each rank, empty ones included."""
        return rounds_of_all(self.num_batches, self.world_size)

    def check(self) -> None:
        """Reads this rank's batches once: what is damaged is found here, and not by one rank in the middle of a run.

        Raises:
            DataError: a file is damaged.
        """
        for number in range(self._rank, self.num_batches, self.world_size):
            self._directions.read(self._window, [number])

    def first_batch(self) -> Batch:
        """The first batch of all, the same on every rank.

        Raises:
            DataError: a file is damaged.
        """
        return self._batch(0)

    def __iter__(self) -> Iterator[Batch]:
        for micro_step in range(len(self)):
            number = micro_step * self.world_size + self._rank
            yield self._batch(number) if number < self.num_batches else empty_batch()

    def _batch(self, number: int) -> Batch:
        reading = self._directions.read(self._window, [number])
        return self._directions.batch(reading, 0, index=number)
