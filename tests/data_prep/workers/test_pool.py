"""Processes that share the work: results, errors, death of either side, and how many a launcher started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from data_prep.workers.pool import Workers, here, processes_started
from smoe_ds.errors import DataError
from tests.helpers.environment import ROOT

PARENT = """
import threading, time
from data_prep.workers.pool import here
if __name__ == "__main__":
    with here(2) as workers:
        workers.submit("a", time.sleep, 0)
        list(workers.results())
        print("ready", flush=True)
        time.sleep(60)
"""
ANOTHER_THREAD = "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"


def _square(number: int) -> int:
    return number * number


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("number", "copied"), [(1, False), (2, False), (2, True)])
def test_results_come_with_their_keys_also_of_calls_made_meanwhile(
    number: int, copied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_prep.workers.pool._is_single_threaded", lambda: copied)
    with here(number) as workers:
        for value in range(5):
            workers.submit(value, _square, value)
        found = {}
        for key, result in workers.results():
            found[key] = result
            if key < 5:
                workers.submit(key + 5, _square, key + 5)
        assert found == {value: value * value for value in range(10)} and workers.pending == 0


def test_a_worker_that_dies_is_an_error_that_says_so() -> None:
    message = r"a worker process died \(killed.*: cleaning eng-nso.train piece 3; finished"
    with pytest.raises(DataError, match=message), here(2) as workers:
        workers.submit(("cleaning", "eng-nso.train", "piece 3"), _die)
        list(workers.results())


def test_workers_that_never_answer_are_not_waited_for() -> None:
    with here(2) as workers:
        waiting = Workers(workers._executor, 2, deadline=0.5)
        waiting.submit(("reading", "eng-nso.train"), time.sleep, 3)
        with pytest.raises(DataError, match=r"finished anything for 0 s; 1 pieces .*oldest: reading eng-nso.train; is"):
            list(waiting.results())


@pytest.mark.parametrize("copied", [True, False])
def test_workers_end_when_their_parent_is_killed(tmp_path: Path, copied: bool) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT if copied else PARENT.replace("    with here", f"    {ANOTHER_THREAD}\n    with here"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline() == "ready\n"
    workers = psutil.Process(parent.pid).children(recursive=True)
    assert len(workers) >= 2
    assert any("spawn_main" in word for worker in workers for word in worker.cmdline()) != copied
    parent.kill()
    parent.wait(timeout=30)
    deadline = time.monotonic() + 30
    while any(_runs(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [worker for worker in workers if _runs(worker)]


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, (1, "")),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, (4, "OMPI_COMM_WORLD_SIZE=4")),
        ({"PMI_SIZE": "3", "MPI_LOCALRANKID": "0"}, (3, "PMI_SIZE=3")),
        ({"PMI_SIZE": "1"}, (1, "")),
        ({"WORLD_SIZE": "2"}, (2, "WORLD_SIZE=2")),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_NTASKS": "8"}, (8, "SLURM_NTASKS=8")),
        ({"SLURM_STEP_ID": "4294967291", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, (1, "")),  # a batch script
        ({"SLURM_NTASKS": "8"}, (1, "")),
    ],
)
def test_processes_started(environ: dict[str, str], expected: tuple[int, str]) -> None:
    assert processes_started(environ) == expected
