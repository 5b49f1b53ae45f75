from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from smoe_ds.data.validation_batches import ValidationBatches
from smoe_ds.errors import DataError
from tests.helpers.sentences import MemorySentences, random_sentences
from tests.helpers.streams import LANGUAGE_IDS, content, data_config


def validation_batches(sentences: MemorySentences | None = None, **settings: Any) -> ValidationBatches:
    sentences = random_sentences("eng-nso", 300) if sentences is None else sentences
    arguments = {"max_positions": 64, "rank": 0, "world_size": 1} | settings
    return ValidationBatches(sentences, LANGUAGE_IDS, data_config(), **arguments)


def test_every_sentence_once_and_the_same_each_time() -> None:
    batches = validation_batches()
    first = [content(batch) for batch in batches]
    read = Counter(row[1] - 100 for batch in batches for row in batch.src.tolist())
    assert read == Counter(range(300))
    assert [content(batch) for batch in batches] == first
    assert [content(batch) for batch in validation_batches()] == first
    assert len(batches) == batches.num_batches == len(first)
    assert batches.num_tgt_tokens == sum(batch.num_tgt_tokens for batch in batches)
    assert batches.num_src_tokens == sum(batch.num_src_tokens for batch in batches)


@pytest.mark.parametrize("world_size", [2, 3, 8, 50])
def test_ranks_read_the_same_batches_in_equally_many_steps(world_size: int) -> None:
    whole = [content(batch) for batch in validation_batches()]
    dealt, lengths = [], set()
    for rank in range(world_size):
        batches = validation_batches(rank=rank, world_size=world_size)
        read = list(batches)
        lengths |= {len(batches), len(read)}
        dealt += [content(batch) for batch in read if batch.index >= 0]
        for batch in read:
            if batch.index < 0:
                assert batch.src.shape == batch.tgt_in.shape == batch.tgt_out.shape == (1, 2)
                assert not batch.src.any() and not batch.tgt_in.any() and not batch.tgt_out.any()
                assert batch.num_src_tokens == batch.num_tgt_tokens == 0
    assert lengths == {-(-len(whole) // world_size)}
    assert sorted(dealt) == whole


def test_limit_takes_batches_of_all_lengths() -> None:
    everything, limited = validation_batches(), validation_batches(max_batches=6, world_size=4, rank=1)
    assert limited.num_batches == 6 and len(limited) == 2
    assert [batch.index for batch in limited] == [1, 5]
    widths = [batch.src.shape[1] for batch in everything]
    assert max(widths[:6]) - min(widths[:6]) > (max(widths) - min(widths)) / 4
    assert validation_batches(max_batches=10_000).num_batches == everything.num_batches


def test_long_sentences_are_left_out_and_counted() -> None:
    batches = validation_batches(MemorySentences("eng-nso", [[7], [8] * 63], [[7], [8]]))
    assert batches.skipped == 1
    assert sum(len(batch.directions) for batch in batches) == 1


def test_nothing_to_validate_is_an_error() -> None:
    with pytest.raises(DataError, match="eng-nso: every sentence pair is longer"):
        validation_batches(MemorySentences("eng-nso", [[8] * 63], [[8]]))
    with pytest.raises(DataError, match="eng-nso: has no sentence"):
        validation_batches(MemorySentences("eng-nso", [], []))
