"""Measures the data of a run: how full its micro-batches are, and how fast they are drawn and read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from smoe_ds.config.run import RunConfig
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.sentences import SentencePairs
from smoe_ds.data.stream import order_settings
from smoe_ds.data.window import Directions, Window
from smoe_ds.scaling.constants import Constant, measured

_MOST_READ = 200  # micro-batches
_FIRST_WINDOWS = 10  # find files and caches cold, and do not yet look ahead, see `smoe_ds.data.upcoming`
_WINDOWS = 8  # in which every direction looks ahead once


@dataclass(frozen=True)
class DataFigures:
    """What a corpus gives at a run's settings.

    Attributes:
        padded_share: tokens of a micro-batch, padding included, over the budget.
        real_share: tokens that are no padding, over all of a micro-batch.
        sentence: mean tokens of a sentence on a side, padding included.
        constants: ``draw`` and ``read``.
    """

    padded_share: float
    real_share: float
    sentence: int
    constants: dict[str, Constant]


def measure_data(run: RunConfig, corpus: Corpus) -> DataFigures:
    """The figures of the run's corpus.

    Raises:
        DataError: the corpus is damaged, or has none of the run's directions.
    """
    names = run.smoe.data.directions or corpus.directions_of("train")
    sentences = {name: corpus.sentences("train", name) for name in names}
    tokenizer = corpus.tokenizer
    return measure_sentences(run, sentences, {name: tokenizer.language_id(name) for name in tokenizer.languages})


def measure_sentences(
    run: RunConfig, sentences: Mapping[str, SentencePairs], language_ids: Mapping[str, int]
) -> DataFigures:
    """Draws windows of sentence pairs in a row, as a run does, and reads micro-batches of the last one.

    Args:
        run: its settings of the data.
        sentences: direction -> its sentence pairs.
        language_ids: language -> id of its token.
    """
    data = run.smoe.data
    settings = order_settings(data, sentences, seed=run.smoe.train.seed, max_positions=run.smoe.model.max_positions)
    directions = Directions(sentences, language_ids, settings)
    before = np.zeros(len(sentences), dtype=np.int64)
    drawn, seconds = 0, 0.0
    for number in range(_FIRST_WINDOWS + _WINDOWS):
        began = time.perf_counter()
        window = directions.draw(number, before)
        before = before + window.drawn
        if number >= _FIRST_WINDOWS:
            seconds += time.perf_counter() - began
            drawn += int(window.num_src_tokens.sum() + window.num_tgt_tokens.sum())
    tokens = int(window.num_src_tokens.sum() + window.num_tgt_tokens.sum())
    padded, batches = int(window.num_padded_tokens), len(window.packing)
    return DataFigures(
        padded_share=padded / batches / data.max_tokens,
        real_share=tokens / padded,
        sentence=max(1, round(padded / 2 / len(window.direction))),
        constants={"draw": measured([(float(drawn), seconds)]), "read": measured([_read(directions, window)])},
    )


def _read(directions: Directions, window: Window) -> tuple[float, float]:
    """Tokens of some micro-batches, and the seconds it takes to read and collate them."""
    numbers = list(range(min(_MOST_READ, len(window.packing))))
    began = time.perf_counter()
    reading = directions.read(window, numbers)
    batches = [directions.batch(reading, i, index=i) for i in numbers]
    return float(sum(b.num_src_tokens + b.num_tgt_tokens for b in batches)), time.perf_counter() - began
