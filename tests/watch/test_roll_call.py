"""Who has come, as the beats in the run folder tell."""

from __future__ import annotations

import os
from pathlib import Path

from smoe_ds.watch.beats import BeatFile
from smoe_ds.watch.roll_call import roll_call


def come(folder: Path, hosts: dict[int, str]) -> None:
    for rank, host in hosts.items():
        BeatFile(folder / f"rank-{rank}").write({"host": host})


def test_missing_ranks_are_named_and_the_others_hosts(tmp_path: Path) -> None:
    come(tmp_path, {0: "a", 1: "a", 4: "c"})
    text = roll_call(tmp_path, 0, 5, recent=10)
    assert text == "ranks 2, 3 did not come (a: ranks 0, 1; c: rank 4): start them too, with the same run folder"


def test_if_all_came_the_network_is_to_blame(tmp_path: Path) -> None:
    come(tmp_path, {0: "a", 1: "b"})
    expected = "all were started (a: rank 0; b: rank 1), so these hosts do not reach each other"
    assert roll_call(tmp_path, 1, 2, recent=10) == expected


def test_beats_of_an_earlier_start_do_not_count(tmp_path: Path) -> None:
    come(tmp_path, {0: "a", 1: "b"})
    now = (tmp_path / "rank-1").stat().st_mtime
    os.utime(tmp_path / "rank-0", (now - 11, now - 11))
    assert roll_call(tmp_path, 1, 2, recent=10).startswith("rank 0 did not come (b: rank 1)")


def test_a_rank_without_a_beat_of_its_own_says_so(tmp_path: Path) -> None:
    assert roll_call(tmp_path / "none", 0, 2, recent=10) == "it is not known which ranks came"
