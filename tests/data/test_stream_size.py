"""What the stream costs: memory and time at any size, padding, and what it builds ahead in the background."""

from __future__ import annotations

import threading
import time
import tracemalloc

import numpy as np
import pytest

from smoe_ds.config.data import DataConfig
from smoe_ds.data.stream import TrainStream, order_settings
from smoe_ds.data.window import Directions
from smoe_ds.errors import DataError
from tests.helpers.sentences import ComputedSentences
from tests.helpers.streams import LANGUAGE_IDS, data_config, small_corpus, steps_of, train_stream

# Size


def lengths_looked_up(corpus: dict[str, ComputedSentences]) -> int:
    """Sentences whose length anybody asked for so far: the work that grows with what a stream reads."""
    return sum(pairs.src_lengths.looked_up for pairs in corpus.values())


def test_188_directions_of_50_million_sentences_start_and_resume_on_one_window() -> None:
    sizes = (np.arange(1, 95.0) ** -1.2 / (np.arange(1, 95.0) ** -1.2).sum() * 25e6).astype(int) + 1
    languages = [f"l{i}" for i in range(94)]
    names = [(f"eng-{x}", n) for x, n in zip(languages, sizes, strict=True)]
    names += [(f"{x}-eng", n) for x, n in zip(languages, sizes, strict=True)]
    corpus = {name: ComputedSentences(name, int(size)) for name, size in names}
    assert sum(map(len, corpus.values())) == pytest.approx(50e6, rel=0.01)
    config = data_config(window=16384, max_tokens=8192, temperature=5.0)
    arguments = {"seed": 1, "max_positions": 512, "micro_batches_per_step": 64, "fingerprint": "f", "prefetch": False}

    def open_stream(rank: int) -> TrainStream:
        ids = {"eng": 4, **{language: 5 + i for i, language in enumerate(languages)}}
        return TrainStream(corpus, ids, config, **arguments, rank=rank, world_size=64)

    tracemalloc.start()
    stream = open_stream(0)
    stream.next_step()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert lengths_looked_up(corpus) < 2 * 16384
    assert peak < 64 * 2**20
    for _ in range(20):
        stream.next_step()
    before = lengths_looked_up(corpus)
    resumed = open_stream(1)
    resumed.restore(stream.position())
    resumed.next_step()
    assert lengths_looked_up(corpus) - before < 3 * 16384


def test_resuming_costs_the_same_after_ten_million_windows() -> None:
    corpus = {"eng-nso": ComputedSentences("eng-nso", 12_345_678), "eng-cat": ComputedSentences("eng-cat", 12_345_678)}
    config = data_config(window=1000)
    position = train_stream(corpus, config=config).position()
    position |= {"window": 10_000_000, "drawn": {"eng-nso": 5 * 10**9, "eng-cat": 5 * 10**9}, "micro_batch": 10**9}
    stream = train_stream(corpus, config=config)
    before = lengths_looked_up(corpus)
    stream.restore(position)
    step = stream.next_step()
    assert lengths_looked_up(corpus) - before <= 3 * 1000
    assert step.batches[0].index == 10**9
    assert step.epochs["eng-nso"] == pytest.approx(5e9 / 12_345_678, rel=1e-6)


# Padding


@pytest.mark.parametrize("temperature", [1.0, 5.0])
@pytest.mark.parametrize(
    ("mean", "spread", "max_tokens"),
    [(3.0, 0.2, 8192), (3.3, 0.3, 8192), (2.7, 0.2, 8192), (3.0, 0.2, 32_768), (3.3, 0.3, 65_536)],
)
def test_little_padding_at_the_default_settings(
    temperature: float, mean: float, spread: float, max_tokens: int
) -> None:
    """Lengths as in translated text: lognormal, median 15 to 27 pieces, the ratio of the sides off by a fifth."""
    corpus = {}
    times = 1 if max_tokens == 8192 else 100  # a window grows only with the text
    sizes = {"eng-nso": 3_000 * times, "eng-cat": 50_000 * times, "cat-eng": 50_000 * times}
    for seed, (direction, size) in enumerate(sizes.items()):
        rng = np.random.default_rng(seed)
        pairs = corpus[direction] = ComputedSentences(direction, size)
        src = np.clip(np.exp(rng.normal(mean, 0.6, size)), 1, 250)
        pairs.src_lengths = src.astype(np.int32)  # type: ignore[assignment]
        pairs.tgt_lengths = np.clip(src * np.exp(rng.normal(0, spread, size)), 1, 250).astype(np.int32)  # type: ignore[assignment]
    config = DataConfig(path="unused", temperature=temperature, max_tokens=max_tokens)
    settings = order_settings(config, corpus, seed=1, max_positions=512)
    directions = Directions(corpus, LANGUAGE_IDS, settings)
    window = directions.draw(0, np.zeros(3, np.int64))
    real = int((window.num_src_tokens + window.num_tgt_tokens).sum())
    assert real / window.num_padded_tokens >= 0.95
    assert window.num_padded_tokens / (len(window.packing) * settings.max_tokens) >= 0.98


# Background thread


class FailingSentences(ComputedSentences):
    def __init__(self, error: BaseException) -> None:
        super().__init__("eng-nso", 1000)
        self.fails = False
        self._error = error

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if self.fails:
            raise self._error
        return super().__getitem__(index)


@pytest.mark.parametrize("prefetch", [1, 2, 7])
def test_what_is_built_ahead_changes_nothing(prefetch: int) -> None:
    plain = train_stream()
    with train_stream(prefetch=prefetch) as ahead, train_stream(config=data_config(prefetch_steps=prefetch)) as too:
        for _ in range(25):
            assert steps_of(ahead, 1) == steps_of(plain, 1)
            assert ahead.position() == plain.position()
        assert steps_of(too, 25) == steps_of(train_stream(), 25)


@pytest.mark.parametrize("error", [MemoryError("full"), SystemExit(3), KeyError("lost")])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_any_end_of_the_background_thread_is_an_error_and_no_hang(error: BaseException, prefetch: int) -> None:
    pairs = FailingSentences(error)
    with train_stream({"eng-nso": pairs}, prefetch=prefetch) as stream:
        pairs.fails = True
        for call in (stream.wait, stream.next_step):
            with pytest.raises(type(error)):
                call()


def test_waiting_for_a_step_does_not_take_it() -> None:
    for prefetch in (0, 2):
        with train_stream(prefetch=prefetch) as stream:
            start = stream.position()
            stream.wait()
            stream.wait()
            assert stream.position() == start
            assert steps_of(stream, 3) == steps_of(train_stream(), 3)


@pytest.mark.parametrize("tokens", [1, 2000])
@pytest.mark.parametrize("world_size", [1, 3])
def test_how_much_is_read_at_a_time_changes_nothing(
    tokens: int, world_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = data_config(window=1000)
    expected = steps_of(train_stream(config=config, micro_batches_per_step=6, world_size=world_size), 40)
    monkeypatch.setattr("smoe_ds.data.stream._TOKENS_AT_A_TIME", tokens)
    corpus = small_corpus()
    stream = train_stream(corpus, config=config, micro_batches_per_step=6, world_size=world_size)
    assert steps_of(stream, 40) == expected
    if tokens == 1 and world_size == 1:  # every step by itself: nothing is read that no batch needed
        assert sum(pairs.reads for pairs in corpus.values()) == sum(len(b[1]) for step in expected for b in step)


def test_error_of_the_background_thread_reaches_the_caller_and_loses_no_step() -> None:
    pairs = FailingSentences(DataError("eng-nso: file is damaged"))
    expected = steps_of(train_stream({"eng-nso": ComputedSentences("eng-nso", 1000)}), 6)
    with train_stream({"eng-nso": pairs}, prefetch=True) as stream:
        read = steps_of(stream, 2)
        time.sleep(0.2)  # step 3 is built meanwhile
        pairs.fails = True
        read += steps_of(stream, 1)
        position = stream.position()
        with pytest.raises(DataError, match="file is damaged"):
            stream.next_step()
        assert stream.position() == position
        pairs.fails = False
        read += steps_of(stream, 3)
    assert read == expected


def test_steps_are_built_ahead() -> None:
    corpus = small_corpus()
    with train_stream(corpus, prefetch=True) as stream:
        rows = sum(len(batch.directions) for batch in stream.next_step().batches)
        deadline = time.monotonic() + 5
        while sum(pairs.reads for pairs in corpus.values()) <= rows and time.monotonic() < deadline:
            time.sleep(0.01)
        assert sum(pairs.reads for pairs in corpus.values()) > rows


def test_close_ends_the_thread_and_keeps_the_position() -> None:
    threads = set(threading.enumerate())
    stream = train_stream(prefetch=True)
    steps_of(stream, 2)
    position = stream.position()
    assert set(threading.enumerate()) - threads
    stream.close()
    stream.close()
    assert not set(threading.enumerate()) - threads
    assert stream.position() == position
    with pytest.raises(RuntimeError, match="shutdown"):
        stream.next_step()
