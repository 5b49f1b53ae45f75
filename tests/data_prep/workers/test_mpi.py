"""Preparation by several processes that a launcher started: they share the work, or refuse to do it several times."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.helpers.environment import ROOT
from tests.helpers.prepared import prepare_spec, small_spec, write_lines, write_spec

pytestmark = pytest.mark.multirank

FOREIGN = ("SLURM_", "OMPI_", "PMI_", "MPI_", "MASTER_", "RANK", "WORLD_SIZE", "LOCAL_", "TORCHELASTIC_")


def environment(**more: str) -> dict[str, str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {**environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", **more}


def mpirun(number: int) -> list[str]:
    """The command that starts so many processes, with the mpirun of the MPI that mpi4py uses."""
    beside = Path(sys.executable).with_name("mpirun")
    program = str(beside) if beside.exists() else shutil.which("mpirun")
    if program is None:
        pytest.skip("no mpirun here (pip install mpich brings one)")
    probe = subprocess.run([sys.executable, "-c", "from mpi4py import MPI"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"mpi4py finds no MPI library: {probe.stderr.strip().splitlines()[-1]}")
    return [program, "-n", str(number), sys.executable, "-m", "data_prep"]


def hashes_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_same_bytes_under_mpirun(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, languages=("nso", "cat", "rus")) | {"shards": {"sentences": 100}}
    alone = prepare_spec(tmp_path, spec, workers=1)
    command = [*mpirun(3), str(write_spec(tmp_path, spec)), "--output", str(tmp_path / "shared"), "--piece", "70"]
    run = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("prepared: ") == 1
    assert hashes_of(tmp_path / "shared") == hashes_of(alone.path)
    run = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)
    assert run.returncode == 0 and "already prepared, verified" in run.stdout


def test_an_error_under_mpirun_ends_all(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    (tmp_path / "train.eng-nso.eng").open("a").write("One more line.\n")
    command = [*mpirun(3), str(write_spec(tmp_path, spec))]
    run = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)
    assert run.returncode != 0
    assert run.stderr.count("error: ") == 1 and "train.eng-nso.eng has 401 lines" in run.stderr


def test_a_rank_that_dies_ends_the_job(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, languages=("nso",))
    lines = [f"line {number} of many" for number in range(300_000)]
    spec["pairs"][0]["train"].append({side: write_lines(tmp_path / side, lines) for side in ("src", "tgt")})
    command = [*mpirun(3), str(write_spec(tmp_path, spec)), "--piece", "20000"]
    job = subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("corpus.work/records/clean/*/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    ranks = [child for child in psutil.Process(job.pid).children(recursive=True) if "data_prep" in child.cmdline()]
    assert len(ranks) == 3 and job.poll() is None
    rank_of = {int(child.environ()["PMI_RANK"]): child for child in ranks}
    rank_of[2].send_signal(signal.SIGKILL)
    out, err = job.communicate(timeout=60)
    assert job.returncode != 0 and (b"KILLED" in out + err.upper() or b"EXIT CODE: 9" in out + err)
    assert not (tmp_path / "corpus").exists() and (tmp_path / "corpus.work/records").exists()


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"},
        {"WORLD_SIZE": "4", "RANK": "1"},
    ],
)
def test_processes_that_do_not_know_each_other_are_refused(tmp_path: Path, variables: dict[str, str]) -> None:
    path = write_spec(tmp_path, small_spec(tmp_path))
    command = [sys.executable, "-m", "data_prep", str(path)]
    run = subprocess.run(command, cwd=ROOT, env=environment(**variables), capture_output=True, text=True, timeout=120)
    assert run.returncode == 2 and run.stderr.count("\n") == 1
    assert "=4: 4 processes, but mpi4py" in run.stderr and "start with" in run.stderr
    assert not any(path.is_dir() for path in tmp_path.iterdir())
