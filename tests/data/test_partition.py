from __future__ import annotations

import pytest

from smoe_ds.data.partition import check_partition, micro_batches_of_rank, rounds_of_all
from smoe_ds.errors import ConfigError


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 6, 12])
def test_ranks_share_a_step_without_gap_or_overlap(world_size: int) -> None:
    parts = [list(micro_batches_of_rank(36, 12, rank, world_size)) for rank in range(world_size)]
    assert {len(part) for part in parts} == {12 // world_size}
    assert sorted(index for part in parts for index in part) == list(range(36, 48))


def test_micro_step_m_of_rank_r_reads_m_times_world_size_plus_r() -> None:
    for rank in range(4):
        assert list(micro_batches_of_rank(24, 12, rank, 4)) == [24 + m * 4 + rank for m in range(3)]


@pytest.mark.parametrize(("micro_batches", "rank", "world_size"), [(4, 0, 3), (0, 0, 1), (4, 2, 2), (4, -1, 2)])
def test_what_cannot_be_shared_is_refused(micro_batches: int, rank: int, world_size: int) -> None:
    with pytest.raises(ConfigError):
        check_partition(micro_batches, rank, world_size)


def test_message_names_a_way_out() -> None:
    with pytest.raises(ConfigError, match="choose a multiple of 3"):
        check_partition(4, 0, 3)


@pytest.mark.parametrize(("batches", "rounds"), [(0, 0), (1, 1), (4, 1), (5, 2), (8, 2)])
def test_rounds_of_all(batches: int, rounds: int) -> None:
    assert rounds_of_all(batches, 4) == rounds
