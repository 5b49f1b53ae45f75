"""Cores: what control groups grant, and what ranks that real launchers have bound, or not bound, count as theirs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from smoe_ds.parallel.cores import cores_here
from tests.helpers.environment import ROOT, own_environment

ALLOWED = sorted(os.sched_getaffinity(0))
EVERYTHING = len(ALLOWED)
TELL = """
from smoe_ds.parallel.cores import cores_here
from smoe_ds.parallel.launchers import discover
from smoe_ds.parallel.threads import choose_threads
cores, env = cores_here(), discover()
print(f"{cores.own} {cores.host} {choose_threads(env.local_world_size)}\\n", end="")
"""
two_cores = pytest.mark.skipif(EVERYTHING < 2, reason="needs two cores")


def host(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    """A folder with the control groups of a host."""
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_cores_that_control_groups_grant(tmp_path: Path) -> None:
    def granted(root: Path) -> tuple[int, int]:
        cores = cores_here({}, root)
        return cores.allowed, cores.together

    assert granted(tmp_path / "nothing") == (EVERYTHING, EVERYTHING)
    one = {"sys/fs/cgroup/a/cpu.max": "100000 100000\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}
    assert granted(host(tmp_path / "two", "0::/a/b\n", one)) == (1, 1)
    half = {"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "50000\n", "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n"}
    assert granted(host(tmp_path / "old", "3:cpu,cpuacct:/a\n", half)) == (1, 1)
    none = {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}
    assert granted(host(tmp_path / "free", "3:cpu:/\n2:cpuset:/\n", none)) == (EVERYTHING, EVERYTHING)


def told(launcher: list[str], program: list[str] | None = None, **variables: str) -> list[str]:
    """What each rank says: its cores, those of all ranks, its threads."""
    environ = own_environment(**variables)
    environ.pop("OMP_NUM_THREADS")
    command = [*launcher, *(program or [sys.executable, "-c", TELL])]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return sorted(line for line in done.stdout.splitlines() if line)


@two_cores
def test_ranks_in_a_narrow_job_share_it() -> None:
    """``taskset`` around the launcher narrows the job; it gives no rank a core of its own."""
    ranks = 'for rank in 0 1; do LOCAL_RANK=$rank RANK=$rank "$@" & done; wait'
    variables = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    cores = ",".join(str(core) for core in ALLOWED[:2])
    assert told(["taskset", "-c", cores, "bash", "-c", ranks, "ranks"], **variables) == ["2 2 1", "2 2 1"]
    narrow = ["taskset", "-c", str(ALLOWED[0]), "bash", "-c", ranks, "ranks"]
    assert told(narrow, **variables) == ["1 1 1", "1 1 1"]


@two_cores
def test_bound_ranks_keep_their_cores() -> None:
    """One rank of two has all cores but one, as from a launcher that binds: it uses them all."""
    first, rest = str(ALLOWED[0]), ",".join(str(core) for core in ALLOWED[1:])
    ranks = f'LOCAL_RANK=0 RANK=0 taskset -c {first} "$@" & LOCAL_RANK=1 RANK=1 taskset -c {rest} "$@"; wait'
    variables = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    found = told(["bash", "-c", ranks, "ranks"], **variables)
    others = EVERYTHING - 1
    sharing = 1 if 2 * others <= EVERYTHING else 2
    assert found == sorted([f"1 {EVERYTHING} 1", f"{others} {EVERYTHING} {max(1, others // sharing)}"])


@two_cores
@pytest.mark.multirank
@pytest.mark.parametrize(("binding", "own"), [("core", 1), ("none", EVERYTHING)])
@pytest.mark.parametrize("wrapped", [False, True])
def test_ranks_of_open_mpi(binding: str, own: int, wrapped: bool) -> None:
    program = shutil.which("mpirun.openmpi")
    if program is None:
        pytest.skip("needs Open MPI (Debian package openmpi-bin)")
    command = ["bash", "-c", '"$@"; true', "wrapper", sys.executable, "-c", TELL] if wrapped else None
    launcher = [program, "-n", "2", "--oversubscribe", "--bind-to", binding]
    threads = 1 if own == 1 else max(1, EVERYTHING // 2)
    assert told(launcher, command) == [f"{own} {EVERYTHING} {threads}"] * 2
