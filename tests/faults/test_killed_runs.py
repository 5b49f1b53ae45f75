"""A whole run, killed at random moments and started again with the same command, ends as if nothing had happened."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from smoe_ds.run.folder import RunFolder
from smoe_ds.run.history import read_history, read_records
from tests.helpers.own_ranks import OwnRanks, processes_that_mention
from tests.helpers.small_run import scalars, small_run, train_on_rank, write_run
from tests.train.test_run import checkpoint_hashes

pytestmark = pytest.mark.multirank

STEPS = 12
GOES = 40  # starts after which a run that does not end is a failure
WITHIN = 30.0  # seconds in which the other rank must have ended


def _run(folder: Path, corpus: Path) -> str:
    run = small_run(
        folder / "run", corpus, max_steps=STEPS, checkpoint_every=2, validate_every=5, keep_last=2, death_deadline=10.0
    )
    run["smoe"]["moe"]["ep_size"] = 2
    folder.mkdir()
    return str(write_run(folder / "run.json", run))


def _kill_until_done(folder: Path, file: str, kills: int, rng: random.Random) -> int:
    """Starts two ranks again and again; the first `kills` times one of them is killed at a random moment.

    The moments follow how far the runs come, not a clock: a run is killed shortly after a random line of its output,
    or comes to its end before that. Before the first line the ranks have not met; those deaths are in test_deaths.

    Returns:
        How many runs were killed before their end.
    """
    for go in range(GOES):
        ranks = OwnRanks(train_on_rank, 2, folder / f"out-{go}", file, [])
        if go < kills:
            lines, pause = rng.randrange(1, 8), rng.uniform(0.0, 0.1)
            while ranks.output(0).count("\n") < lines and all(p.exitcode is None for p in ranks.processes):
                time.sleep(0.01)
            time.sleep(pause)
            ranks.processes[rng.randrange(2)].kill()
        endings = ranks.wait(WITHIN + 60)
        deadline = time.monotonic() + WITHIN
        while processes_that_mention(str(folder)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert processes_that_mention(str(folder)) == []
        codes = [ending.code for ending in endings]
        assert None not in codes, (go, endings)
        if codes == [0, 0]:
            return go
        assert -9 in codes, (go, endings)
    raise AssertionError(f"not at its end after {GOES} starts")


def _check(tmp_path: Path, corpus: Path, kills: int, seed: int) -> None:
    whole = tmp_path / "whole"
    assert _kill_until_done(whole, _run(whole, corpus), 0, random.Random(0)) == 0
    killed = tmp_path / "killed"
    assert _kill_until_done(killed, _run(killed, corpus), kills, random.Random(seed)) >= 2  # the rest may come too late
    expected, found = scalars(whole / "run"), scalars(killed / "run")
    histories = [RunFolder(folder / "run").history for folder in (whole, killed)]
    lines, lines_found = ([(record["step"], record.keys()) for record in read_records(file)] for file in histories)
    assert lines_found == lines
    history, history_found = (read_history(file) for file in histories)
    for tag in ("train/loss", "train/nll", "train/gradient_norm", "valid/nll"):
        assert found[tag] == expected[tag], tag
        assert history_found[tag] == history[tag], tag
    assert sorted(found["train/nll"]) == list(range(1, STEPS + 1))
    assert checkpoint_hashes(killed / "run", STEPS) == checkpoint_hashes(whole / "run", STEPS)
    left = [path.name for path in (killed / "run" / "checkpoints").iterdir() if ".tmp-" in path.name]
    assert left == []


def test_killed_a_few_times(tmp_path: Path, corpus_folder: Path) -> None:
    _check(tmp_path, corpus_folder, 4, seed=11)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_killed_many_times(tmp_path: Path, corpus_folder: Path, seed: int) -> None:
    _check(tmp_path, corpus_folder, 8, seed)
