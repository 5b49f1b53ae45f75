"""What a run would see of a corpus: size, share and epochs of every direction at given settings."""

from __future__ import annotations

from dataclasses import dataclass

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
class CorpusStats:
    """All directions.

    Attributes:
        directions: in alphabetical order.
        pairs_per_step: sentence pairs that are read in a step, on average.
        tokens_per_step: source and target tokens of a step, special tokens included, padding not.
        window: sentence pairs of a window, see `smoe.data.window`.
        packing: real tokens / tokens with padding.
    """

    directions: list[DirectionStats]
    pairs_per_step: float
    tokens_per_step: float
    window: int
    packing: float


def corpus_stats(
    corpus: Corpus, config: DataConfig, *, seed: int, max_positions: int, micro_batches_per_step: int
) -> CorpusStats:
    """Draws and packs the first window of a run, for the means; reads lengths only, but all of them.

    Args:
        corpus: the corpus.
        config: section ``smoe.data``; its directions, mixture and batches.
        seed: seed of the order.
        max_positions: longest source or target [tokens].
        micro_batches_per_step: micro-batches of one optimizer step over all ranks.

    Raises:
        DataError: an unknown direction, one without sentences, none that fits at all, or a damaged file.
    """
    names = corpus.directions_of("train") if config.directions is None else config.directions
    sentences = {name: corpus.sentences("train", name) for name in names}
    ids = {language: corpus.tokenizer.language_id(language) for language in corpus.languages}
    settings = order_settings(config, sentences, seed=seed, max_positions=max_positions)
    directions = Directions(sentences, ids, settings)
    window = directions.draw(0, np.zeros(len(names), np.int64))
    if not len(window.packing):
        directions.require_usable()
    micro_batches = max(1, len(window.packing))
    per_step = micro_batches_per_step / micro_batches
    too_long = directions.too_long()
    drawn = np.array([share / WHOLE for share in directions.shares])
    read = drawn * (directions.sizes - too_long) / directions.sizes
    epochs = np.where(read > 0, STEPS * per_step * settings.window * drawn / directions.sizes, 0)
    columns = (column.tolist() for column in (too_long, read / read.sum(), epochs))
    tokens = int(window.num_src_tokens.sum() + window.num_tgt_tokens.sum())
    return CorpusStats(
        directions=[_direction(corpus, *row) for row in zip(directions.names, *columns, strict=True)],
        pairs_per_step=per_step * len(window.direction),
        tokens_per_step=per_step * tokens,
        window=settings.window,
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
