"""A rank that is alive but gets nowhere, and starts that follow each other closely."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.own_ranks import OwnRanks, await_none_that_mention, processes_that_mention
from tests.helpers.small_run import small_run, train_on_rank, write_run

pytestmark = pytest.mark.multirank

DEADLINE, STALL = 10.0, 6.0
PLACES = {"data": (2, "waiting for data"), "exchange": (20, "computing"), "save": (1, "saving")}


def run_for_ever(rank: int, world_size: int, file: str, culprit: int, place: str, moment: str) -> int:
    """Trains; the culprit ends in a loop without end, and the other one comes late to an exchange with it.

    So late that the watchers' patience ends before that of the exchange, which would say itself that it waits; and the
    culprit marks progress once more, so that the other one is without any for longer.
    """
    import smoe_ds.moe.expert_parallel as exchange
    from smoe_ds.checkpoints.part_file import PartFile
    from smoe_ds.train.trainer import Trainer
    from smoe_ds.watch.heartbeat import Heartbeat

    owner, name = {
        "data": (Trainer, "_data_problem"),
        "exchange": (exchange.dist, "all_to_all_single"),
        "save": (PartFile, "close"),
    }[place]
    original, calls = getattr(owner, name), []
    heartbeats: list[Heartbeat] = []
    enter = Heartbeat.__enter__
    Heartbeat.__enter__ = lambda self: heartbeats.append(self) or enter(self)  # type: ignore[method-assign, func-returns-value]

    def loop_for_ever(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == PLACES[place][0]:
            if rank != culprit:
                time.sleep(DEADLINE / 2)
                return original(*args, **kwargs)
            time.sleep(1)
            heartbeats[0].doing(heartbeats[0]._doing)
            Path(moment).write_text(str(time.monotonic()))
            while True:
                time.sleep(0.01)
        return original(*args, **kwargs)

    if rank == culprit or place == "exchange":
        setattr(owner, name, loop_for_ever)
    return train_on_rank(rank, world_size, file, [])


@pytest.mark.parametrize(("place", "culprit"), [("data", 0), ("exchange", 1), ("save", 1)])
def test_who_makes_no_progress_is_named_and_not_who_waits_for_it(
    tmp_path: Path, corpus_folder: Path, place: str, culprit: int
) -> None:
    run = small_run(tmp_path / "run", corpus_folder, death_deadline=DEADLINE, stall_timeout=STALL, checkpoint_every=2)
    run["smoe"]["moe"]["ep_size"] = 2
    file = str(write_run(tmp_path / "run.json", run))
    moment = tmp_path / "moment"
    ranks = OwnRanks(run_for_ever, 2, tmp_path / "out", file, culprit, place, str(moment))
    endings = ranks.wait(60)
    for ending in endings:
        assert ending.code not in (0, None) and ending.after is not None, endings
        assert ending.after - float(moment.read_text()) < STALL + DEADLINE, endings
    await_none_that_mention(str(tmp_path))
    crash = json.loads((tmp_path / "run" / "crash.json").read_text())
    assert (crash["rank"], crash["kind"], crash["echo"]) == (culprit, "stalled", False), crash
    assert crash["doing"].endswith(PLACES[place][1])
    assert "loop_for_ever" in crash["traceback"]
    assert f"no progress for {STALL:.0f} s (smoe.train.stall_timeout)" in ranks.output(0)


def _rank_0_is_killed(rank: int, world_size: int, file: str) -> int:
    from smoe_ds.train.trainer import Trainer
    from tests.helpers.own_ranks import die

    original = Trainer._close_step

    def planted(self: Trainer, skipped: str) -> None:
        original(self, skipped)
        if self.progress.step == 3:
            if rank == 0:
                die("killed")
            time.sleep(15)  # it does not see that rank 0 has gone

    Trainer._close_step = planted  # type: ignore[method-assign]
    return train_on_rank(rank, world_size, file, ["smoe.train.death_deadline=60"])


def test_a_start_that_follows_at_once_does_not_get_the_last_ones_crash(tmp_path: Path, corpus_folder: Path) -> None:
    """The first one's watchers wait some seconds for what its other rank says; the second one trains by then."""
    run = small_run(tmp_path / "run", corpus_folder, checkpoint_every=2, max_steps=100_000, validate_every=100_000)
    file = str(write_run(tmp_path / "run.json", run))
    first = OwnRanks(_rank_0_is_killed, 2, tmp_path / "first", file)
    first.processes[0].join(60)
    watchers = processes_that_mention(str(tmp_path))
    second = OwnRanks(train_on_rank, 1, tmp_path / "second", file, [])
    first.wait(60)
    end = time.monotonic() + 60
    while set(watchers) & set(processes_that_mention(str(tmp_path))) or "step 5/" not in second.output(0):
        assert time.monotonic() < end and second.processes[0].exitcode is None, second.output(0)
        time.sleep(0.05)
    assert watchers and "continuing after step 2" in second.output(0)
    assert "rank 0 of 2 failed first" in first.output(0)
    assert not (tmp_path / "run" / "crash.json").exists()
    (tmp_path / "run" / "STOP").touch()
    (ending,) = second.wait(60)
    assert ending.code == 75, ending
    await_none_that_mention(str(tmp_path))
