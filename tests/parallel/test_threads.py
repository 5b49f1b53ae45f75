"""Threads: what each rank gets, and that PyTorch takes it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from smoe_ds.parallel.cores import Cores
from smoe_ds.parallel.threads import WAITING, choose_threads
from tests.helpers.environment import ROOT

ARGUMENTS = {
    "train": ["train", "RUN"],
    "translate": ["translate", "RUN", "--to", "nso"],
    "evaluate": ["evaluate", "RUN"],
    "export": ["export", "RUN", "--output", "OUT"],
    "calibrate": ["calibrate", "RUN", "--output", "OUT"],
    "average": ["average", "RUN", "--last", "2", "--output", "OUT"],
    "upcycle": ["upcycle", "RUN", "--set", "smoe.moe.strata=[2]", "--output", "OUT"],
    "import": ["import", "CHECKPOINT", "RUN", "--trust", "--output", "OUT"],
}


@pytest.mark.parametrize(
    ("environ", "ranks", "cores", "number"),
    [
        ({}, 1, Cores(8, 8), 8),
        ({}, 3, Cores(8, 8), 2),
        ({}, 16, Cores(8, 8), 1),
        ({}, 8, Cores(1, 8), 1),
        ({}, 4, Cores(4, 16), 4),
        ({}, 4, Cores(3, 16), 3),
        ({}, 8, Cores(8, 16), 2),
        ({}, 4, Cores(4, 16, 8.0), 2),
        ({}, 2, Cores(8, 8, 0.5), 1),
        ({"OMP_NUM_THREADS": "5"}, 4, Cores(8, 8), 5),
        ({"OMP_NUM_THREADS": "3,2"}, 4, Cores(8, 8), 3),
        ({"OMP_NUM_THREADS": "many"}, 4, Cores(8, 8), 2),
        ({"SLURM_CPUS_PER_TASK": "8"}, 4, Cores(8, 32), 8),
        ({"SLURM_CPUS_PER_TASK": "8"}, 4, Cores(64, 64), 8),
        ({"SLURM_CPUS_PER_TASK": "32"}, 4, Cores(32, 32), 8),
        ({"SLURM_CPUS_PER_TASK": "16", "OMP_NUM_THREADS": "2"}, 4, Cores(8, 8), 2),
    ],
)
def test_each_rank_has_its_share(environ: dict[str, str], ranks: int, cores: Cores, number: int) -> None:
    before = dict(environ)
    assert choose_threads(ranks, environ, cores) == number
    assert environ == {"OMP_NUM_THREADS": str(number), **WAITING, **before}


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_a_choice_of_how_to_wait_stays(name: str) -> None:
    environ = {name: "7"}
    choose_threads(1, environ, Cores(2, 2))
    assert environ == {"OMP_NUM_THREADS": "2", name: "7"}


def test_pytorch_takes_the_choice() -> None:
    environ = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    program = "from smoe_ds.parallel.cores import Cores; from smoe_ds.parallel.threads import choose_threads\n"
    program += "choose_threads(1, cores=Cores(1, 1)); import torch; print(torch.get_num_threads())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environ, capture_output=True, check=True)
    assert done.stdout == b"1\n"


@pytest.mark.parametrize("command", [*ARGUMENTS])
def test_commands_choose_before_pytorch_is_there(command: str) -> None:
    program = f"""
import sys
from smoe_ds.cli.main import main
from smoe_ds.parallel import threads
import smoe_ds.config

smoe_ds.config.load_run = lambda *args: None
threads.choose_threads = lambda ranks: sys.exit(9 + ("torch" in sys.modules))
sys.exit(main({ARGUMENTS[command]}))
"""
    environ = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environ, check=False).returncode == 9
