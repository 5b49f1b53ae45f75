"""Threads: what is allowed, what each rank gets, and that PyTorch takes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from smoe_ds.parallel.threads import WAITING, allowed_cores, choose_threads
from tests.helpers.environment import ROOT


@pytest.mark.parametrize(
    ("environ", "ranks", "cores", "number"),
    [
        ({}, 1, 8, 8),
        ({}, 3, 8, 2),
        ({}, 16, 8, 1),
        ({"OMP_NUM_THREADS": "5"}, 4, 8, 5),
        ({"OMP_NUM_THREADS": "3,2"}, 4, 8, 3),
        ({"OMP_NUM_THREADS": "many"}, 4, 8, 2),
        ({"SLURM_CPUS_PER_TASK": "8"}, 4, 8, 8),
        ({"SLURM_CPUS_PER_TASK": "16"}, 4, 8, 8),
        ({"SLURM_CPUS_PER_TASK": "16", "OMP_NUM_THREADS": "2"}, 4, 8, 2),
    ],
)
def test_each_rank_has_its_share(environ: dict[str, str], ranks: int, cores: int, number: int) -> None:
    before = dict(environ)
    assert choose_threads(ranks, environ, lambda: cores) == number
    assert environ == {"OMP_NUM_THREADS": str(number), **WAITING, **before}


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_a_choice_of_how_to_wait_stays(name: str) -> None:
    environ = {name: "7"}
    choose_threads(1, environ, lambda: 2)
    assert environ == {"OMP_NUM_THREADS": "2", name: "7"}


def host(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    """A folder with the control groups of a host."""
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_cores_that_control_groups_grant(tmp_path: Path) -> None:
    everything = len(os.sched_getaffinity(0))
    assert allowed_cores(tmp_path / "nothing") == everything
    one = {"sys/fs/cgroup/a/cpu.max": "100000 100000\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}
    assert allowed_cores(host(tmp_path / "two", "0::/a/b\n", one)) == 1
    half = {"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "50000\n", "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n"}
    assert allowed_cores(host(tmp_path / "old", "3:cpu,cpuacct:/a\n", half)) == 1
    none = {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}
    assert allowed_cores(host(tmp_path / "free", "3:cpu:/\n2:cpuset:/\n", none)) == everything


def test_pytorch_takes_the_choice() -> None:
    environ = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    program = "from smoe_ds.parallel.threads import choose_threads; choose_threads(1, cores=lambda: 1)\n"
    program += "import torch; print(torch.get_num_threads())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environ, capture_output=True, check=True)
    assert done.stdout == b"1\n"


@pytest.mark.parametrize("command", ["train", "translate", "evaluate", "export", "calibrate"])
def test_commands_choose_before_pytorch_is_there(command: str) -> None:
    arguments = {
        "train": ["train", "RUN"],
        "translate": ["translate", "RUN", "--to", "nso"],
        "evaluate": ["evaluate", "RUN"],
        "export": ["export", "RUN", "--output", "OUT"],
        "calibrate": ["calibrate", "RUN", "--output", "OUT"],
    }[command]
    program = f"""
import sys
from smoe_ds.cli.main import main
from smoe_ds.parallel import threads
import smoe_ds.config

smoe_ds.config.load_run = lambda *args: None
threads.choose_threads = lambda ranks: sys.exit(9 + ("torch" in sys.modules))
sys.exit(main({arguments}))
"""
    environ = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environ, check=False).returncode == 9
