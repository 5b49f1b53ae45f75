"""In which order the sentences of a window are read: upwards in every file, the directions of a pair together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smoe_ds.data.blocks import CheckedFile
from smoe_ds.data.framing import Framing
from smoe_ds.data.mapping import RESIDENT
from smoe_ds.data.parallel_sentences import ParallelSentences, Side
from smoe_ds.data.ragged import Ragged
from smoe_ds.data.shard_reader import ShardSide
from smoe_ds.data.shards import ShardWriter, token_dtype
from smoe_ds.data.window import Directions, OrderSettings
from tests.helpers.resident import resident_of
from tests.helpers.sentences import ComputedSentences
from tests.helpers.streams import LANGUAGE_IDS

SENTENCES, IDS = 8192, 2048  # 32 MiB on one side


def settings(window: int, max_tokens: int) -> OrderSettings:
    return OrderSettings(
        seed=1,
        temperature=1.0,
        max_tokens=max_tokens,
        window=window,
        max_positions=max_tokens // 2,
        framing=Framing(True, True),
    )


class Recorded(ComputedSentences):
    def __init__(self, direction: str, reads: list[tuple[str, list[int]]]) -> None:
        super().__init__(direction, 500)
        self._to = reads

    def read(self, numbers: np.ndarray) -> tuple[Ragged, Ragged]:
        self._to.append((self.direction, numbers.tolist()))
        return super().read(numbers)


def test_each_direction_is_read_once_upwards_and_after_it_the_way_back() -> None:
    reads: list[tuple[str, list[int]]] = []
    names = ["eng-run", "nso-eng", "cat-eng", "eng-cat", "run-eng", "eng-nso"]
    directions = Directions({name: Recorded(name, reads) for name in names}, LANGUAGE_IDS, settings(900, 600))
    window = directions.draw(0, np.zeros(6, np.int64))
    directions.read(window, range(len(window.packing)))
    assert sorted(name for name, _ in reads) == sorted(names)
    assert all(len(numbers) == 150 and numbers == sorted(numbers) for _, numbers in reads)
    pairs = [set(name.split("-")) for name, _ in reads]
    assert pairs[::2] == pairs[1::2]


def test_few_pages_stay_of_a_file_that_is_read_all_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = ShardWriter(tmp_path, ("eng", "nso"), 30_000, SENTENCES)
    ids = np.random.default_rng(0).integers(4, 30_000, SENTENCES * IDS)
    writer.add(
        Ragged(ids, np.full(SENTENCES, IDS)), Ragged(np.full(SENTENCES, 4, np.int64), np.ones(SENTENCES, np.int64))
    )
    (shard,) = writer.close()["shards"]
    side = {name: Side([ShardSide(tmp_path, shard["sides"][name], token_dtype(30_000))]) for name in ("eng", "nso")}
    directions = Directions(
        {"eng-nso": ParallelSentences("eng-nso", side)}, LANGUAGE_IDS, settings(SENTENCES // 8, 8192)
    )
    path = tmp_path / shard["sides"]["eng"]["bin"]["file"]
    assert path.stat().st_size == 4 * RESIDENT
    resident: list[int] = []
    plain = CheckedFile.read

    def measured(file: CheckedFile, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        resident.append(resident_of(path))
        return plain(file, start, stop)

    monkeypatch.setattr(CheckedFile, "read", measured)
    window = directions.draw(0, np.zeros(1, np.int64))
    reading = directions.read(window, range(len(window.packing)))
    resident.append(resident_of(path))
    assert 0 < max(resident) <= 2 * RESIDENT
    row = int(reading.place[0])
    first = int(window.sentence[window.packing[0][0]]) * IDS
    assert reading.src.values[row * IDS : (row + 1) * IDS].tolist() == ids[first : first + IDS].tolist()
