"""Ways to stop a run in order, and folders in which none can start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.disks import small_disk
from tests.helpers.own_ranks import OwnRanks, processes_that_mention
from tests.helpers.small_run import small_run, train_on_rank, write_run

pytestmark = pytest.mark.multirank


def endless(folder: Path, corpus: Path, **train: Any) -> Path:
    """A run file whose run ends when it is told to."""
    never = {"max_steps": 100_000, "validate_every": 100_000, "checkpoint_every": 100_000}
    return write_run(folder / "run.json", small_run(folder / "run", corpus, death_deadline=10.0, **never | train))


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Waits for something that is to come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def saved_steps(folder: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in (folder / "run" / "checkpoints").glob("step_*"))


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2", "STOP"])
def test_told_to_stop_all_ranks_save_and_exit_with_75(tmp_path: Path, corpus_folder: Path, how: str) -> None:
    ranks = OwnRanks(train_on_rank, 2, tmp_path / "out", str(endless(tmp_path, corpus_folder)), [])
    until(lambda: "step 2/" in ranks.output(0))
    if how == "STOP":
        (tmp_path / "run" / "STOP").touch()
    else:
        for _ in range(2):  # the second one changes nothing; SIGINT's comes too soon to mean impatience
            os.kill(ranks.processes[1].pid, signal.Signals[how])  # one rank hears of it, all stop
    endings = ranks.wait(60)
    assert [ending.code for ending in endings] == [75, 75], endings
    (step,) = saved_steps(tmp_path)
    assert f"stopped at step {step} by" in endings[0].output
    obeyed = ["STOPPED"] if how == "STOP" else []
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        *obeyed,
        "checkpoints",
        "config.json",
        "environment.json",
        "history.jsonl",
        "run.lock",
        "tensorboard",
        "tokenizer.model",
    ]
    assert processes_that_mention(str(tmp_path)) == []


def _told_while_it_starts(rank: int, world_size: int, file: str) -> int:
    from smoe_ds.train.trainer import Trainer

    build = Trainer._build_engine

    def signalled(self: Trainer) -> Any:
        if rank == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        return build(self)

    Trainer._build_engine = signalled  # type: ignore[method-assign]
    return train_on_rank(rank, world_size, file, [])


def test_a_signal_during_the_start_counts(tmp_path: Path, corpus_folder: Path) -> None:
    ranks = OwnRanks(_told_while_it_starts, 2, tmp_path / "out", str(endless(tmp_path, corpus_folder)))
    endings = ranks.wait(60)
    assert [ending.code for ending in endings] == [75, 75], endings
    assert "stopped at step 0" in endings[0].output


def test_a_signal_while_libraries_load_counts(tmp_path: Path, corpus_folder: Path) -> None:
    """From the moment that the watcher runs, which would take the end for a crash."""
    file = endless(tmp_path, corpus_folder)
    command = [sys.executable, "-m", "smoe_ds", "train", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until(lambda: any((tmp_path / "run").glob("alive-*")))
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 75, output
    assert "stopped at step 0 by a signal" in output
    assert not (tmp_path / "run" / "crash.json").exists()


def _saves_for_long(rank: int, world_size: int, file: str, overrides: list[str]) -> int:
    """Every save but the first takes ever so long."""
    from smoe_ds.checkpoints.part_file import PartFile

    close, calls = PartFile.close, []

    def slow(self: PartFile) -> Any:
        calls.append(1)
        if len(calls) > 2:
            print("a long save", flush=True)
            time.sleep(60)
        return close(self)

    PartFile.close = slow  # type: ignore[method-assign]
    return train_on_rank(rank, world_size, file, overrides)


def test_a_second_interrupt_ends_at_once_and_keeps_what_was_committed(tmp_path: Path, corpus_folder: Path) -> None:
    file = str(endless(tmp_path, corpus_folder, checkpoint_every=2))
    ranks = OwnRanks(_saves_for_long, 1, tmp_path / "out", file, [])
    until(lambda: "a long save" in ranks.output(0))
    for _ in range(2):
        os.kill(ranks.processes[0].pid, signal.SIGINT)
        time.sleep(2.1)
    (ending,) = ranks.wait(30)  # less than the save would take
    assert ending.code == 130, ending
    assert "interrupted twice; the last committed checkpoint stays" in ending.output
    (again,) = OwnRanks(train_on_rank, 1, tmp_path / "again", file, ["smoe.train.max_steps=3"]).wait(60)
    assert again.code == 0, again
    assert "continuing after step 2" in again.output
    assert saved_steps(tmp_path) == [2, 3]


def test_two_runs_in_one_folder_and_a_dead_one_holds_nothing(tmp_path: Path, corpus_folder: Path) -> None:
    file = str(endless(tmp_path, corpus_folder, checkpoint_every=1))
    first = OwnRanks(train_on_rank, 1, tmp_path / "first", file, [])
    until(lambda: "step 1/" in first.output(0))
    second = OwnRanks(train_on_rank, 2, tmp_path / "second", file, []).wait(60)
    assert second[0].code == 2 and second[1].code not in (None, 0), second
    holder = f"process {first.processes[0].pid} on {socket.gethostname()} is training in {tmp_path}/run"
    assert holder in second[0].output
    assert not (tmp_path / "run" / "crash.json").exists()  # the folder is the first one's
    lines = first.output(0).count("\n")
    until(lambda: first.output(0).count("\n") > lines)  # which goes on
    first.processes[0].kill()
    first.wait(10)
    (third,) = OwnRanks(train_on_rank, 1, tmp_path / "third", file, ["smoe.train.max_minutes=0.001"]).wait(60)
    assert third.code == 0, third
    assert "continuing after step" in third.output


def test_a_folder_that_is_read_only_is_refused_at_the_start(tmp_path: Path, corpus_folder: Path) -> None:
    with small_disk(tmp_path / "disk", "1m"):
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        run = small_run(tmp_path / "disk" / "run", corpus_folder)
        file = str(write_run(tmp_path / "run.json", run))
        endings = OwnRanks(train_on_rank, 2, tmp_path / "out", file, []).wait(60)
    for ending in endings:
        assert ending.code == 2, ending
        assert "Read-only file system" in ending.output
        assert "choose another smoe.train.output_dir" in ending.output
