"""188 directions and 50 million sentences: start, resume and memory with offset tables of that size on disk."""

from __future__ import annotations

import cProfile
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smoe_ds.config.data import DataConfig
from smoe_ds.data.mixture import draw_counts, mixture_shares
from smoe_ds.data.stream import TrainStream
from tests.helpers.large_shards import open_directions, write_large_pairs

LANGUAGES = ["eng", *(f"x{number:02d}" for number in range(94))]


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("large")
    yield write_large_pairs(folder, pairs=94, sentences=25_000_000)
    shutil.rmtree(folder)


def open_stream(entries: dict[str, Any], temperature: float) -> TrainStream:
    return TrainStream(
        open_directions(entries),
        {language: 4 + number for number, language in enumerate(LANGUAGES)},
        DataConfig(path="unused", temperature=temperature),
        seed=1,
        max_positions=512,
        micro_batches_per_step=8,
        rank=0,
        world_size=1,
        fingerprint="large",
        prefetch=0,
    )


def position_at(stream: TrainStream, window: int, temperature: float, sizes: list[int]) -> dict[str, Any]:
    """The position before a window."""
    start = stream.position()
    draws = start["belongs_to"]["window"]
    shares = mixture_shares(sizes, temperature)
    drawn = np.zeros(len(sizes), np.int64)
    for number in range(window):
        drawn += draw_counts(shares, draws, seed=1, window=number)
    return start | {"window": window, "drawn": dict(zip(start["drawn"], drawn.tolist(), strict=True))}


def start(entries: dict[str, Any], temperature: float, position: dict[str, Any]) -> None:
    """To the first step from a position."""
    stream = open_stream(entries, temperature)
    stream.restore(position)
    stream.next_step()


def calls_of(work: Callable[[], None]) -> int:
    """Calls of functions during this work, of Python and of libraries: a cost that is the same on every machine."""
    profile = cProfile.Profile()
    profile.runcall(work)
    return sum(entry.callcount for entry in profile.getstats())


def resident() -> float:
    """Resident memory of this process [MiB]."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return next(int(words[1]) / 1024 for words in lines if words[0] == "VmRSS:")


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_start_and_resume_cost_the_same_and_little(entries: dict[str, Any], temperature: float) -> None:
    sizes = [len(sentences) for _, sentences in sorted(open_directions(entries).items())]
    assert len(sizes) == 188 and sum(sizes) == pytest.approx(50e6, rel=0.001)
    first = open_stream(entries, temperature)
    positions = [position_at(first, window, temperature, sizes) for window in (0, 1, 300)]
    calls = [calls_of(partial(start, entries, temperature, position)) for position in positions]
    assert max(calls) < 1.2 * min(calls)


def test_memory_does_not_grow_with_what_was_read(entries: dict[str, Any]) -> None:
    open_stream(entries, 1.0).next_step()  # imports torch
    before = resident()
    stream = open_stream(entries, 1.0)
    read, most = 0, 0.0
    while read < 150_000:
        read += sum(len(batch.directions) for batch in stream.next_step().batches)
        most = max(most, resident() - before)
    assert most < 80
