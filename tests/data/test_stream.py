from __future__ import annotations

import hashlib
import json
import threading
import time
import tracemalloc
from collections import Counter
from typing import Any

import numpy as np
import pytest

from smoe_ds.config.data import DataConfig
from smoe_ds.data.stream import TrainStream, order_settings
from smoe_ds.data.window import Directions
from smoe_ds.errors import ConfigError, DataError
from tests.helpers.sentences import ComputedSentences, MemorySentences, random_sentences
from tests.helpers.streams import LANGUAGE_IDS, content, data_config, small_corpus, train_stream


def steps_of(stream: TrainStream, count: int) -> list[list[Any]]:
    return [[content(batch) for batch in stream.next_step().batches] for _ in range(count)]


# What a batch holds


def test_sequences_carry_their_special_tokens() -> None:
    pairs = MemorySentences("eng-nso", [[10, 11], [12]], [[20], [21, 22, 23]])
    batch = train_stream({"eng-nso": pairs}, config=data_config(window=2), micro_batches_per_step=1).next_step()
    (only,) = batch.batches
    rows = sorted(zip(only.src.tolist(), only.tgt_in.tolist(), only.tgt_out.tolist(), strict=True))
    assert rows == [
        ([5, 10, 11, 2], [5, 20, 0, 0], [20, 2, 0, 0]),
        ([5, 12, 2, 0], [5, 21, 22, 23], [21, 22, 23, 2]),
    ]
    assert (only.num_src_tokens, only.num_tgt_tokens) == (7, 6)
    assert only.directions == ("eng-nso", "eng-nso")
    assert only.index == 0


def test_language_tokens_can_be_left_out() -> None:
    config = data_config(window=1, source_language_token=False, target_language_token=False)
    pairs = MemorySentences("eng-nso", [[10, 11]], [[20]])
    (batch,) = train_stream({"eng-nso": pairs}, config=config, micro_batches_per_step=1).next_step().batches
    assert (batch.src.tolist(), batch.tgt_in.tolist(), batch.tgt_out.tolist()) == ([[10, 11, 2]], [[1, 20]], [[20, 2]])


def test_empty_sides_are_read() -> None:
    pairs = MemorySentences("eng-nso", [[]], [[]])
    (batch,) = (
        train_stream({"eng-nso": pairs}, config=data_config(window=1), micro_batches_per_step=1).next_step().batches
    )
    assert (batch.src.tolist(), batch.tgt_in.tolist(), batch.tgt_out.tolist()) == ([[5, 2]], [[5]], [[2]])


def test_each_row_is_a_sentence_of_its_direction() -> None:
    corpus, stream = small_corpus(), train_stream()
    for _ in range(20):
        for batch in stream.next_step().batches:
            assert batch.src.numel() + batch.tgt_in.numel() <= 600
            assert batch.num_src_tokens == int((batch.src != 0).sum())
            assert batch.num_tgt_tokens == int((batch.tgt_out != 0).sum())
            for direction, src, tgt in zip(batch.directions, batch.src.tolist(), batch.tgt_out.tolist(), strict=True):
                src_pieces, tgt_pieces = corpus[direction][src[1] - 100]
                assert src[: len(src_pieces) + 2] == [
                    {"eng": 4, "nso": 5, "cat": 6, "run": 7}[direction[-3:]],
                    *src_pieces,
                    2,
                ]
                assert tgt[: len(tgt_pieces) + 1] == [*tgt_pieces, 2]


# Mixture and epochs


def sentences_by_window(stream: TrainStream, windows: int) -> list[Counter[tuple[str, int]]]:
    """Direction and number of the sentences of each window; the stream must give one micro-batch per step."""
    read: list[Counter[tuple[str, int]]] = [Counter() for _ in range(windows)]
    while True:
        (batch,) = stream.next_step().batches
        window = stream.position()["window"]
        if window == windows:
            return read
        firsts = batch.src[:, 1].tolist()
        read[window].update((d, first - 100) for d, first in zip(batch.directions, firsts, strict=True))


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_each_epoch_visits_each_sentence_once(temperature: float) -> None:
    corpus = small_corpus()
    stream = train_stream(config=data_config(temperature=temperature), micro_batches_per_step=1)
    read = sum(sentences_by_window(stream, 40), Counter())
    drawn = stream.position()["drawn"]
    assert sum(drawn.values()) == 40 * 128
    for direction, pairs in corpus.items():
        counts = [read[direction, sentence] for sentence in range(len(pairs))]
        epochs, rest = divmod(drawn[direction], len(pairs))
        assert Counter(counts) == Counter(
            {epochs: len(pairs) - rest, epochs + 1: rest} if rest else {epochs: len(pairs)}
        )


def test_each_epoch_has_an_order_of_its_own_and_each_direction_too() -> None:
    corpus = {name: random_sentences(name, 64) for name in ("eng-nso", "nso-eng")}
    stream = train_stream(corpus, config=data_config(window=16), micro_batches_per_step=1)
    windows = sentences_by_window(stream, 24)  # 8 sentences of each direction: 8 windows an epoch
    parts = {d: [frozenset(i for name, i in window if name == d) for window in windows] for d in corpus}
    assert len(set(parts["eng-nso"])) == 24
    assert parts["eng-nso"] != parts["nso-eng"]


def test_mixture_follows_the_temperature() -> None:
    corpus = {"eng-nso": random_sentences("eng-nso", 10), "eng-cat": random_sentences("eng-cat", 1000)}
    for temperature, share in ((1.0, 10 / 1010), (2.0, 1 / 11)):
        stream = train_stream(corpus, config=data_config(temperature=temperature, window=256), micro_batches_per_step=1)
        while stream.position()["window"] < 20:
            stream.next_step()
        assert stream.position()["drawn"]["eng-nso"] / (20 * 256) == pytest.approx(share, abs=0.003)


def test_epochs_count_what_was_read() -> None:
    corpus = {"eng-nso": random_sentences("eng-nso", 64)}
    stream = train_stream(corpus, config=data_config(window=64), micro_batches_per_step=1)
    previous = 0.0
    while stream.position()["window"] < 3:
        step = stream.next_step()
        assert step.epochs["eng-nso"] > previous
        previous = step.epochs["eng-nso"]
    assert 3 < previous <= 4


def test_one_sentence_is_enough() -> None:
    stream = train_stream({"eng-nso": MemorySentences("eng-nso", [[10]], [[20]])})
    assert [len(stream.next_step().batches) for _ in range(50)] == [4] * 50


def test_direction_without_sentences_is_named() -> None:
    with pytest.raises(DataError, match="direction eng-nso: holds no sentence"):
        train_stream({"eng-nso": MemorySentences("eng-nso", [], []), "eng-cat": random_sentences("eng-cat", 5)})


def test_no_direction_is_an_error() -> None:
    with pytest.raises(DataError, match="no direction"):
        train_stream({})


def test_unknown_direction_is_named() -> None:
    with pytest.raises(DataError, match=r"eng-xxx not in the prepared corpus, which has .*eng-nso"):
        train_stream(config=data_config(directions=["eng-nso", "eng-xxx"]))


def test_language_without_token_is_named() -> None:
    with pytest.raises(DataError, match="direction eng-xxx: the tokenizer has no token for language xxx"):
        train_stream({"eng-xxx": random_sentences("eng-xxx", 5)})


def test_only_selected_directions_are_read() -> None:
    stream = train_stream(config=data_config(directions=["nso-eng", "eng-nso"]))
    seen = {d for _ in range(20) for batch in stream.next_step().batches for d in batch.directions}
    assert seen == {"nso-eng", "eng-nso"}


# Sentences that are too long


def lengths_corpus() -> dict[str, Any]:
    """20 pairs, of which 2 have a long source, 1 a long target, 1 both at the edge of max_positions 10."""
    src = [[100 + i] * n for i, n in enumerate([8] * 17 + [9, 50, 3])]
    tgt = [[20] * n for n in [9] * 17 + [3, 3, 10]]
    return {"eng-nso": MemorySentences("eng-nso", src, tgt), "eng-cat": random_sentences("eng-cat", 20, longest=6)}


def test_long_sentences_are_skipped_and_counted() -> None:
    config = data_config(window=40, temperature=1.0)
    stream = train_stream(lengths_corpus(), config=config, max_positions=10, micro_batches_per_step=1)
    windows = sentences_by_window(stream, 5)  # 20 sentences of each direction: one epoch per window
    for window in windows:
        assert {i for d, i in window if d == "eng-nso"} == set(range(17))
        assert sum(window.values()) == 37
    assert stream.position()["skipped"] == {"eng-nso": 15, "eng-cat": 0}
    assert stream.next_step().skipped == {"eng-nso": 18}


def test_pair_above_the_token_budget_is_skipped() -> None:
    pairs = MemorySentences("eng-nso", [[10] * 9, [11] * 8], [[20] * 8, [21] * 8])  # 11 + 9 and 10 + 9 tokens
    stream = train_stream({"eng-nso": pairs}, config=data_config(max_tokens=19, window=2), micro_batches_per_step=1)
    assert {batch.src[0, 1].item() for _ in range(5) for batch in stream.next_step().batches} == {11}


@pytest.mark.parametrize("prefetch", [False, True])
def test_all_sentences_too_long_is_an_error_not_a_loop(prefetch: bool) -> None:
    corpus = {name: ComputedSentences(name, 3_000_000, shortest=63, longest=90) for name in ("eng-nso", "eng-cat")}
    with (
        train_stream(corpus, prefetch=prefetch) as stream,
        pytest.raises(DataError, match="eng-cat, eng-nso: every sentence pair is longer than max_positions 64"),
    ):
        stream.next_step()


def test_the_one_short_sentence_is_found() -> None:
    lengths = [[7] * 100] * 2000
    pairs = MemorySentences("eng-nso", [*lengths, [8]], [*lengths, [9]])
    stream = train_stream({"eng-nso": pairs}, config=data_config(window=16), micro_batches_per_step=1)
    for epoch in (1, 2, 3):
        step = stream.next_step()
        assert step.batches[0].src.tolist() == [[5, 8, 2]]
        assert epoch - 1 < step.epochs["eng-nso"] < epoch + 0.01


# Ranks


@pytest.mark.parametrize("world_size", [2, 4, 12])
def test_sequence_does_not_depend_on_the_world_size(world_size: int) -> None:
    single = train_stream(micro_batches_per_step=12)
    ranks = [train_stream(micro_batches_per_step=12, rank=r, world_size=world_size) for r in range(world_size)]
    for _ in range(12):
        whole = single.next_step()
        parts = [rank.next_step() for rank in ranks]
        dealt = [content(part.batches[m]) for m in range(12 // world_size) for part in parts]
        assert dealt == [content(batch) for batch in whole.batches]
        for part in parts:
            assert part.num_src_tokens == whole.num_src_tokens == sum(b.num_src_tokens for b in whole.batches)
            assert part.num_tgt_tokens == whole.num_tgt_tokens == sum(b.num_tgt_tokens for b in whole.batches)
            assert (part.epochs, part.skipped) == (whole.epochs, whole.skipped)
    assert {json.dumps(rank.position()) for rank in ranks} == {json.dumps(single.position())}


def test_steps_straddle_windows_and_micro_batches_are_numbered() -> None:
    stream = train_stream(micro_batches_per_step=7)
    read = [batch[0] for step in steps_of(stream, 30) for batch in step]
    assert read == list(range(210))
    position = stream.position()
    assert position["window"] > 5 and position["offset"] < 210


def test_a_rank_reads_only_its_own_sentences() -> None:
    corpus = small_corpus()
    stream = train_stream(corpus, micro_batches_per_step=8, rank=3, world_size=8)
    rows = sum(len(stream.next_step().batches[0].directions) for _ in range(10))
    assert sum(pairs.reads for pairs in corpus.values()) == rows


def test_step_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose a multiple of 3"):
        train_stream(micro_batches_per_step=4, world_size=3)


# Position


@pytest.mark.parametrize("prefetch", [False, True])
def test_resumes_identically_from_every_step(prefetch: bool) -> None:
    with train_stream(prefetch=prefetch) as stream:
        positions, steps = [], []
        for _ in range(40):
            positions.append(json.dumps(stream.position()))
            steps += steps_of(stream, 1)
    for start in range(40):
        with train_stream(prefetch=prefetch) as resumed:
            resumed.restore(json.loads(positions[start]))
            assert json.dumps(resumed.position()) == positions[start]
            assert steps_of(resumed, min(3, 40 - start)) == steps[start : start + 3]


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("stop", [1, 5, 9, 23])
def test_resumes_with_another_world_size(stop: int, world_size: int) -> None:
    stream = train_stream(rank=1, world_size=2)
    steps_of(stream, stop)
    position = json.loads(json.dumps(stream.position()))
    whole = train_stream()
    expected = steps_of(whole, stop + 5)[stop:]
    ranks = [train_stream(rank=r, world_size=world_size) for r in range(world_size)]
    for rank in ranks:
        rank.restore(position)
    for step in expected:
        parts = [[content(batch) for batch in rank.next_step().batches] for rank in ranks]
        assert [part[m] for m in range(4 // world_size) for part in parts] == step


def test_micro_batches_per_step_may_change() -> None:
    stream = train_stream(micro_batches_per_step=3)
    steps_of(stream, 5)
    resumed = train_stream(micro_batches_per_step=5)
    resumed.restore(stream.position())
    rest = [batch for step in steps_of(resumed, 3) for batch in step]
    assert rest == [batch for step in steps_of(train_stream(micro_batches_per_step=30), 1) for batch in step][15:]
    assert resumed.position()["steps"] == 8


def test_restoring_backwards_in_the_same_stream() -> None:
    with train_stream(prefetch=True) as stream:
        start = stream.position()
        first = steps_of(stream, 10)
        stream.restore(start)
        assert steps_of(stream, 10) == first


def test_position_is_small_integers_and_ignores_what_was_built_ahead() -> None:
    with train_stream(prefetch=True) as ahead:
        plain = train_stream()
        for _ in range(15):
            ahead.next_step()
            plain.next_step()
            assert ahead.position() == plain.position()
    assert len(json.dumps(ahead.position())) < 1000


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("seed", {"seed": 2}),
        ("fingerprint", {"fingerprint": "beef"}),
        ("max_positions", {"max_positions": 65}),
        ("temperature", {"config": data_config(temperature=3.0)}),
        ("max_tokens", {"config": data_config(max_tokens=601)}),
        ("window", {"config": data_config(window=129)}),
        ("source_language_token", {"config": data_config(source_language_token=False)}),
        ("directions differ from this run's in eng-run", {"config": data_config(directions=list(small_corpus())[:4])}),
    ],
)
def test_position_of_another_order_is_refused(name: str, other: dict[str, Any]) -> None:
    saved = train_stream()
    steps_of(saved, 3)
    stream = train_stream(**other)
    before = stream.position()
    with pytest.raises(DataError, match=name):
        stream.restore(saved.position())
    assert stream.position() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 0}, "expected format 1, found 0"),
        ({"belongs_to": None}, "belongs_to: expected an object"),
        ({"window": -1}, "window: expected an integer >= 0, found -1"),
        ({"offset": 1.5}, "offset: expected an integer"),
        ({"steps": True}, "steps: expected an integer"),
        ({"drawn": None}, "drawn: expected a count per direction"),
        ({"drawn": {}}, "directions differ"),
        ({"window": 7}, "window 7 follows 896 drawn sentences"),
        ({"offset": 10_000}, "offset 10000 lies past"),
    ],
)
def test_damaged_position_is_refused(change: dict[str, Any], message: str) -> None:
    stream = train_stream()
    steps_of(stream, 3)
    with pytest.raises(DataError, match=message):
        train_stream().restore(stream.position() | change)


def test_order_is_pinned() -> None:
    # A change here changes the order of every run: raise position.FORMAT, so that older positions are refused.
    corpus = {
        name: ComputedSentences(name, size) for name, size in (("eng-nso", 50), ("nso-eng", 7), ("eng-cat", 10**7))
    }
    steps = steps_of(train_stream(corpus, seed=3), 20)
    assert hashlib.sha256(json.dumps(steps).encode()).hexdigest()[:16] == "4b03215bdb196148"


def test_seeds_differ() -> None:
    assert steps_of(train_stream(seed=1), 1) != steps_of(train_stream(seed=2), 1)


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
@pytest.mark.parametrize(("mean", "spread"), [(3.0, 0.2), (3.3, 0.3), (2.7, 0.2)])
def test_little_padding_at_the_default_settings(temperature: float, mean: float, spread: float) -> None:
    """Lengths as in translated text: lognormal, median 15 to 27 pieces, the ratio of the sides off by a fifth."""
    corpus = {}
    for seed, (direction, size) in enumerate({"eng-nso": 3_000, "eng-cat": 50_000, "cat-eng": 50_000}.items()):
        rng = np.random.default_rng(seed)
        pairs = corpus[direction] = ComputedSentences(direction, size)
        src = np.clip(np.exp(rng.normal(mean, 0.6, size)), 1, 250)
        pairs.src_lengths = src.astype(np.int32)  # type: ignore[assignment]
        pairs.tgt_lengths = np.clip(src * np.exp(rng.normal(0, spread, size)), 1, 250).astype(np.int32)  # type: ignore[assignment]
    settings = order_settings(DataConfig(path="unused", temperature=temperature), seed=1, max_positions=512)
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
