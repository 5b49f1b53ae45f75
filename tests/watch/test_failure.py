"""Echoes of another rank's end, and which failure brought the others about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch.distributed as dist

from smoe_ds.errors import LaunchError
from smoe_ds.watch.failure import Failure, first_failure, is_echo
from tests.helpers.ranks import run_ranks


def failure(rank: int, *, echo: bool = False) -> Failure:
    return Failure(rank, "host", 100 + rank, "exception", "step 3: computing", 1.0, "message", echo=echo)


def test_the_first_that_is_no_echo() -> None:
    assert first_failure({3: failure(3, echo=True), 1: failure(1), 2: failure(2)}).rank == 1


def test_of_echoes_alone_none_is_blamed() -> None:
    """The rank that fell silent is, if there is one; what the others saw of it is told."""
    echoes = {3: failure(3, echo=True), 1: failure(1, echo=True)}
    first = first_failure(echoes)
    assert (first.rank, first.echo) == (3, True)
    assert first.message == (
        "it is not known which rank failed first, this one only saw another go or waited for it: message"
    )
    silent = [replace(failure(rank), kind="lost", seconds=rank, message="no word") for rank in (0, 2)]
    lost = first_failure(echoes, silent[1:])
    assert (lost.rank, lost.kind, lost.echo) == (2, "lost", False)
    assert lost.message == "no word; rank 3 only saw it go: message"
    assert first_failure(echoes, silent).message == "no word, as of ranks 0, 2; rank 3 only saw it go: message"
    assert first_failure({**echoes, 4: failure(4)}, silent).rank == 4


def test_of_ranks_that_vanished_together_the_one_that_ended_first() -> None:
    def vanished(rank: int, ended: float, host: str = "host") -> Failure:
        return replace(failure(rank), kind="vanished", host=host, ended=ended)

    heard = {0: vanished(0, 100.01), 2: vanished(2, 99.0, "other"), 1: vanished(1, 100.0), 3: vanished(3, 107.0)}
    first = first_failure(heard)
    assert first.rank == 1
    assert first.message.startswith("message; ranks 0, 1 ended at the same moment, the launcher may have")
    del heard[1]
    assert first_failure(heard) == heard[0]


def test_an_echo_behind_another_error_counts_and_one_of_ours_does_not() -> None:
    try:
        raise LaunchError("rank 1 of 2 had no luck") from RuntimeError("Broken pipe")
    except LaunchError as error:
        assert is_echo(error)
    assert not is_echo(MemoryError("no memory"))
    assert not is_echo(LaunchError("rank 1 of 2 had no luck"))


def test_a_long_traceback_is_cut_at_its_beginning() -> None:
    long = Failure(0, "host", 1, "exception", "step 1", 0.0, "message", "x" * 20_000 + "the end")
    assert long.as_json()["traceback"].endswith("the end") and len(long.as_json()["traceback"]) == 8000


def _left_alone(rank: int, world_size: int, how: str) -> Any:
    """What gloo itself says to rank 0 when rank 1 ends, or does not come within the timeout."""
    if rank == 1:
        if how == "ends":
            dist.destroy_process_group()
        return None
    try:
        dist.barrier()
    except RuntimeError as error:
        return is_echo(error), str(error)
    return None


@pytest.mark.multirank
def test_what_gloo_says_when_a_peer_ends_is_an_echo() -> None:
    echo, text = run_ranks(_left_alone, 2, "ends")[0]
    assert echo, text


@pytest.mark.multirank
def test_what_gloo_says_when_a_peer_does_not_come_is_an_echo() -> None:
    echo, text = run_ranks(_meet_nobody, 2, init=False)[0]
    assert echo, text


def _meet_nobody(rank: int, world_size: int) -> Any:
    import datetime

    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=5))
    return _left_alone(rank, world_size, "stays")
