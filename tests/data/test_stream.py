"""What the stream gives: batches, mixture and epochs, sentences that are too long, and shares of ranks."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from smoe_ds.data.stream import TrainStream
from smoe_ds.errors import ConfigError, DataError
from tests.helpers.sentences import ComputedSentences, MemorySentences, random_sentences
from tests.helpers.streams import content, data_config, small_corpus, steps_of, train_stream

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
    with pytest.raises(DataError, match="direction eng-nso: has no sentence"):
        train_stream({"eng-nso": MemorySentences("eng-nso", [], []), "eng-cat": random_sentences("eng-cat", 5)})


def test_no_direction_is_an_error() -> None:
    with pytest.raises(DataError, match="no direction"):
        train_stream({})


def test_unknown_direction_is_named() -> None:
    with pytest.raises(DataError, match=r"eng-xxx not in the prepared corpus, or there without .*eng-nso"):
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
