"""What a run would see of a corpus: size, share and epochs of every direction at given settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smoe_ds.config.data import DataConfig
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.mixture import WHOLE
from smoe_ds.data.stream import order_settings
from smoe_ds.data.window import Directions

STEPS = 100_000


@dataclass(frozen=True)
class DirectionStats:
    """One direction.

    Attributes:
        direction: e.g. ``eng-nso``.
        sentences: sentence pairs of the training split.
        src_tokens: pieces of all sources, without special tokens.
        tgt_tokens: pieces of all targets.
        too_long: sentence pairs that are never read, since they exceed the longest side or the batch.
        share: part of the sentence pairs that are read, 0 to 1.
        epochs: times each pair that fits is read in ``STEPS`` steps; 0 where none fits.
    """

    direction: str
    sentences: int
    src_tokens: int
    tgt_tokens: int
    too_long: int
    share: float
    epochs: float


@dataclass(frozen=True)
class StatsSettings:
    """How a run draws and packs a corpus.

    Attributes:
        data: section ``smoe.data``; its directions, mixture and batches.
        seed: seed of the order.
        max_positions: longest source or target [tokens].
        micro_batches: micro-batches of one optimizer step over all ranks.
    """

    data: DataConfig
    seed: int
    max_positions: int
    micro_batches: int


@dataclass(frozen=True)
class Totals:
    """Sums over all directions, see :class:`DirectionStats`; ``directions`` is their number."""

    directions: int
    sentences: int
    src_tokens: int
    tgt_tokens: int
    too_long: int


@dataclass(frozen=True)
class CorpusStats:
    """All directions.

    Attributes:
        path: folder of the corpus.
        settings: what the means hold for.
        directions: in alphabetical order.
        pairs_per_step: sentence pairs that are read in a step, on average.
        tokens_per_step: source and target tokens of a step, special tokens included, padding not.
        window: sentence pairs of a window, see `smoe.data.window`.
        packing: real tokens / tokens with padding.
    """

    path: Path
    settings: StatsSettings
    directions: tuple[DirectionStats, ...]
    pairs_per_step: float
    tokens_per_step: float
    window: int
    packing: float

    @property
    def totals(self) -> Totals:
        """Sums over the directions."""
        names = ("sentences", "src_tokens", "tgt_tokens", "too_long")
        return Totals(len(self.directions), *(sum(getattr(one, name) for one in self.directions) for name in names))

    def as_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "temperature": self.settings.data.temperature,
            "max_tokens": self.settings.data.max_tokens,
            "micro_batches": self.settings.micro_batches,
            "totals": asdict(self.totals),
            "directions": [asdict(one) for one in self.directions],
            "pairs_per_step": self.pairs_per_step,
            "tokens_per_step": self.tokens_per_step,
            "window": self.window,
            "packing": self.packing,
        }


def corpus_stats(corpus: Corpus, settings: StatsSettings) -> CorpusStats:
    """Draws and packs the first window of a run, for the means; reads lengths only, but all of them.

    Raises:
        DataError: an unknown direction, one without sentences, none that fits at all, or a damaged file.
    """
    data = settings.data
    names = corpus.directions_of("train") if data.directions is None else data.directions
    sentences = {name: corpus.sentences("train", name) for name in names}
    ids = {language: corpus.tokenizer.language_id(language) for language in corpus.languages}
    order = order_settings(data, sentences, seed=settings.seed, max_positions=settings.max_positions)
    directions = Directions(sentences, ids, order)
    window = directions.draw(0, np.zeros(len(names), np.int64))
    if not len(window.packing):
        directions.require_usable()
    micro_batches = max(1, len(window.packing))
    per_step = settings.micro_batches / micro_batches
    too_long = directions.too_long()
    drawn = np.array([share / WHOLE for share in directions.shares])
    read = drawn * (directions.sizes - too_long) / directions.sizes
    epochs = np.where(read > 0, STEPS * per_step * order.window * drawn / directions.sizes, 0)
    columns = (column.tolist() for column in (too_long, read / read.sum(), epochs))
    tokens = int(window.num_src_tokens.sum() + window.num_tgt_tokens.sum())
    return CorpusStats(
        path=corpus.path,
        settings=settings,
        directions=tuple(_direction(corpus, *row) for row in zip(directions.names, *columns, strict=True)),
        pairs_per_step=per_step * len(window.direction),
        tokens_per_step=per_step * tokens,
        window=order.window,
        packing=tokens / max(1, window.num_padded_tokens),
    )


def _direction(corpus: Corpus, name: str, too_long: int, share: float, epochs: float) -> DirectionStats:
    entry = corpus.manifest["splits"]["train"][corpus.pair_of("train", name)]
    src, tgt = name.split("-")
    return DirectionStats(
        direction=name,
        sentences=entry["sentences"],
        src_tokens=entry["tokens"][src],
        tgt_tokens=entry["tokens"][tgt],
        too_long=too_long,
        share=share,
        epochs=epochs,
    )
