"""Streams over small corpora for tests, and batches in a form that compares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smoe_ds.config.data import DataConfig
from smoe_ds.data.batch import Batch
from smoe_ds.data.sentences import SentencePairs
from smoe_ds.data.stream import TrainStream
from tests.helpers.sentences import random_sentences

LANGUAGE_IDS = {"eng": 4, "nso": 5, "cat": 6, "run": 7}


def small_corpus() -> dict[str, SentencePairs]:
    """Five directions of 1 to 400 sentence pairs."""
    sizes = {"eng-nso": 60, "nso-eng": 60, "eng-cat": 400, "cat-eng": 400, "eng-run": 1}
    return {direction: random_sentences(direction, size, seed) for seed, (direction, size) in enumerate(sizes.items())}


def data_config(**settings: Any) -> DataConfig:
    """Section ``smoe.data`` with a small window."""
    return DataConfig(**{"path": "unused", "temperature": 2.0, "max_tokens": 600, "window": 128} | settings)


def train_stream(
    sentences: Mapping[str, SentencePairs] | None = None, *, config: DataConfig | None = None, **settings: Any
) -> TrainStream:
    """A stream over ``sentences``, by default :func:`small_corpus`; ``settings`` override the arguments."""
    defaults = {"seed": 1, "max_positions": 64, "micro_batches_per_step": 4, "rank": 0, "world_size": 1}
    defaults |= {"fingerprint": "f00d", "prefetch": False}
    sentences = small_corpus() if sentences is None else sentences
    return TrainStream(sentences, LANGUAGE_IDS, config or data_config(), **(defaults | settings))


def content(batch: Batch) -> tuple[Any, ...]:
    """All of a batch, for comparison."""
    tensors = (batch.src.tolist(), batch.tgt_in.tolist(), batch.tgt_out.tolist())
    return (batch.index, batch.directions, batch.num_src_tokens, batch.num_tgt_tokens, *tensors)


def steps_of(stream: TrainStream, count: int) -> list[list[Any]]:
    """Content of the batches of the next steps."""
    return [[content(batch) for batch in stream.next_step().batches] for _ in range(count)]
