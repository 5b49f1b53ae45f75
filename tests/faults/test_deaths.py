"""If one rank dies, however and wherever, all others end within the deadline, and it is named."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.own_ranks import OwnRanks, die, processes_that_mention
from tests.helpers.small_run import small_run, train_on_rank, write_run

pytestmark = pytest.mark.multirank

DEADLINE = 10.0
MARK = "about to die"
STAGES = ("start", "engine", "data", "exchange", "save")
WAYS = ("killed", "stopped", "exception", "out of memory")
QUICK = {
    ("start", "killed"),
    ("engine", "out of memory"),
    ("data", "exception"),
    ("exchange", "killed"),
    ("exchange", "stopped"),
    ("save", "killed"),
    ("save", "stopped"),
}


@dataclass(frozen=True)
class Case:
    """Where and how rank 1 of two dies (rank 0 where `rank` says so)."""

    stage: str
    way: str
    rank: int = 1

    def __str__(self) -> str:
        return f"{self.stage} {self.way} rank {self.rank}"


def die_at(rank: int, world_size: int, file: str, case: Case, moment: str) -> int:
    """Trains, and dies at the case's place; writes down when."""

    def last_words(*_: Any, **__: Any) -> None:
        Path(moment).write_text(str(time.monotonic()))
        print(MARK, flush=True)
        die(case.way)

    if rank == case.rank:
        _plant(case.stage, last_words)
    return train_on_rank(rank, world_size, file, [])


def _plant(stage: str, last_words: Any) -> None:
    """Puts the death in front of something that every run does."""
    import smoe_ds.moe.expert_parallel as exchange
    import smoe_ds.parallel.process_group as group
    from smoe_ds.checkpoints.part_file import PartFile
    from smoe_ds.train.trainer import Trainer

    owner, name, number = {
        "start": (group, "init_distributed", 1),
        "engine": (Trainer, "_build_engine", 1),
        "data": (Trainer, "_data_problem", 2),
        "exchange": (exchange.dist, "all_to_all_single", 5),
        "save": (PartFile, "close", 1),
    }[stage]
    original, calls = getattr(owner, name), []

    def planted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            last_words()
        return original(*args, **kwargs)

    setattr(owner, name, planted)


def start(folder: Path, corpus: Path, case: Case) -> OwnRanks:
    """Starts two ranks of which one will die."""
    folder.mkdir()
    run = small_run(folder / "run", corpus, death_deadline=DEADLINE, stall_timeout=120.0, checkpoint_every=2)
    run["smoe"]["moe"]["ep_size"] = 2
    file = write_run(folder / "run.json", run)
    return OwnRanks(die_at, 2, folder / "out", str(file), case, str(folder / "moment"))


def check(ranks: OwnRanks, folder: Path, case: Case) -> None:
    """Everybody is gone in time; the first to fail is named, with what can be known of it."""
    endings = ranks.wait(DEADLINE + 60)
    assert all(ending.after is not None for ending in endings), (case, endings)
    moment = float((folder / "moment").read_text())
    assert max(ending.after - moment for ending in endings if ending.after is not None) < DEADLINE, (case, endings)
    deadline = time.monotonic() + DEADLINE / 4
    while processes_that_mention(str(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_that_mention(str(folder)) == []
    crash = json.loads((folder / "run" / "crash.json").read_text())
    kind = {"killed": "vanished", "stopped": "silent"}.get(case.way, "exception")
    assert (crash["rank"], crash["kind"]) == (case.rank, kind), (case, crash)
    assert crash["pid"] == ranks.processes[case.rank].pid
    output = ranks.output(0)  # with what its watcher said after its end
    last = output.strip().splitlines()[-2:]
    assert last[0].startswith(f"smoe-ds: rank {case.rank} of 2 failed first"), output
    assert last[1].endswith(f"smoe-ds train {folder}/run.json # on 2 ranks as before, environment")
    if kind == "exception":
        assert "in last_words" in crash["traceback"]
        assert "in last_words" in output
    assert {"stopped": "state T", "killed": "SIGKILL"}.get(case.way, "Error: ") in crash["message"]
    assert not list((folder / "run").glob("alive-*"))


@pytest.mark.parametrize("case", [Case(*pair) for pair in sorted(QUICK)], ids=str)
def test_all_are_gone_within_the_deadline(tmp_path: Path, corpus_folder: Path, case: Case) -> None:
    check(start(tmp_path / "case", corpus_folder, case), tmp_path / "case", case)


@pytest.mark.parametrize("way", ["killed", "stopped"])
def test_rank_0_is_no_exception(tmp_path: Path, corpus_folder: Path, way: str) -> None:
    case = Case("exchange", way, rank=0)
    check(start(tmp_path / "case", corpus_folder, case), tmp_path / "case", case)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_every_way_to_die_at(tmp_path: Path, corpus_folder: Path, stage: str) -> None:
    for way in WAYS:
        if (stage, way) not in QUICK:
            folder = tmp_path / way.replace(" ", "-")
            check(start(folder, corpus_folder, Case(stage, way)), folder, Case(stage, way))
