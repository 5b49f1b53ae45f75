"""Special tokens around sentence pairs, against a batch built token by token."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from smoe_ds.config.data import DataConfig
from smoe_ds.config.load import load_run
from smoe_ds.data.batch import collate
from smoe_ds.data.framing import Framing
from smoe_ds.data.ragged import Ragged
from smoe_ds.errors import ConfigError, DataError
from tests.helpers.small_run import small_run, write_run
from tests.helpers.streams import data_config, steps_of, train_stream

SOURCES, TARGETS = [[9, 10, 11], [12], []], [[13], [], [14, 15, 16, 17]]
ENG, NSO = 4, 5
CASES = list(itertools.product([True, False, "source", "source_at_end"], [True, False, "after_end", "end"]))


def framed(pieces: list[int], before: list[int], longest: int) -> list[int]:
    row = [*before, *pieces]
    return row + [0] * (longest - len(row))


@pytest.mark.parametrize(("source", "target"), CASES)
def test_a_batch_is_what_the_settings_say(source: bool | str, target: bool | str) -> None:
    framing = Framing.of(DataConfig(path="unused", source_language_token=source, target_language_token=target))
    languages = (np.full(3, ENG), np.full(3, NSO))
    batch = collate(Ragged.of(SOURCES), Ragged.of(TARGETS), *languages, ("eng-nso",) * 3, framing=framing, index=7)
    before = {True: [NSO], "source": [ENG]}.get(source, [])
    after = [ENG] if source == "source_at_end" else []
    start = {True: [NSO], False: [1], "after_end": [2, NSO], "end": [2]}[target]
    width = 3 + len(before) + 1 + len(after)
    assert batch.src.tolist() == [framed([*pieces, 2, *after], before, width) for pieces in SOURCES]
    width = 4 + len(start)
    assert batch.tgt_in.tolist() == [framed(pieces, start, width) for pieces in TARGETS]
    assert batch.tgt_out.tolist() == [framed([*pieces, 2], start[1:], width) for pieces in TARGETS]
    assert batch.num_src_tokens == int((batch.src != 0).sum())
    assert batch.num_tgt_tokens == int((batch.tgt_in != 0).sum()) == int((batch.tgt_out != 0).sum())
    assert framing.special_src == len(before) + 1 + len(after)
    assert framing.before_pieces == len(before)
    assert framing.special_tgt == len(start)


def test_a_stream_frames_each_direction_with_its_own_languages_and_counts_all_tokens() -> None:
    config = data_config(source_language_token="source", target_language_token="after_end")
    ids = {"eng": 4, "nso": 5, "cat": 6, "run": 7}
    for batches in steps_of(train_stream(config=config), 5):
        for _, directions, num_src, num_tgt, src, tgt_in, tgt_out in batches:
            for direction, source, start, out in zip(directions, src, tgt_in, tgt_out, strict=True):
                from_, to = direction.split("-")
                assert (source[0], start[:2], out[0]) == (ids[from_], [2, ids[to]], ids[to])
            assert num_src == sum(token != 0 for row in src for token in row)
            assert num_tgt == sum(token != 0 for row in tgt_out for token in row)
            assert len(src) * (len(src[0]) + len(tgt_in[0])) <= config.max_tokens


def test_a_source_language_without_a_token_is_refused_where_sentences_carry_it() -> None:
    from smoe_ds.data.stream import TrainStream
    from tests.helpers.streams import small_corpus

    def stream(**settings: str) -> TrainStream:
        ids = {"nso": 5, "cat": 6, "run": 7}
        config = data_config(directions=["eng-nso", "eng-cat"], **settings)
        return TrainStream(
            small_corpus(),
            ids,
            config,
            seed=1,
            max_positions=64,
            micro_batches_per_step=1,
            rank=0,
            world_size=1,
            fingerprint="f",
            prefetch=0,
        )

    stream()
    with pytest.raises(DataError, match="direction eng-cat: the tokenizer has no token for language eng"):
        stream(source_language_token="source")


def test_positions_saved_before_there_was_a_choice_are_read() -> None:
    stream = train_stream()
    steps_of(stream, 2)
    saved = stream.position()
    del saved["belongs_to"]["special_tokens_tgt"]
    train_stream().restore(saved)
    other = train_stream(config=data_config(target_language_token="after_end"))
    with pytest.raises(DataError, match=r"smoe\.data\.target_language_token: the number of tokens .* is 1 in"):
        other.restore(saved)


@pytest.mark.parametrize(
    ("side", "value"), [("source", "source"), ("source", "source_at_end"), ("target", "after_end"), ("target", "end")]
)
def test_parts_of_languages_need_the_target_language_first(tmp_path: Path, side: str, value: str) -> None:
    run = small_run(tmp_path / "run", tmp_path)
    file = write_run(tmp_path / "run.json", run)
    load_run(file, [f"smoe.data.{side}_language_token={value}"])
    capacity = "smoe.model.language_capacity.languages=3"
    with pytest.raises(ConfigError, match=f'{side}_language_token: is "{value}", but model.language_capacity needs it'):
        load_run(file, [f"smoe.data.{side}_language_token={value}", capacity])
    named = {"source": "'source' or 'source_at_end'", "target": "'after_end' or 'end'"}[side]
    with pytest.raises(ConfigError, match=f'{side}_language_token: expected true, false, {named}, found "always"'):
        load_run(file, [f"smoe.data.{side}_language_token=always"])
