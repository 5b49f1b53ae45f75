"""The same script under plain python, torchrun, deepspeed and mpirun: same ranks, same losses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from smoe_ds.parallel.process_group import free_port

pytestmark = pytest.mark.multirank

SCRIPT = """
import sys
from pathlib import Path

import torch

from smoe_ds.parallel.env import discover
from smoe_ds.parallel.process_group import init_distributed, shutdown

env = init_distributed(discover(), torch.device("cpu"), timeout=60)
from tests.helpers.engines import Setup, make_engine, train

engine = make_engine(env.rank, env.world_size, Setup(0))
losses = train(engine, env.rank, env.world_size, 0, 2)
text = f"{env.launcher} {env.rank} {env.world_size} {env.local_rank} {losses}"
Path(sys.argv[1], str(env.rank)).write_text(text)  # lines of several ranks on one standard output may mix
shutdown()
"""
FOREIGN = ("SLURM_", "OMPI_", "PMI_", "MPI_", "MASTER_", "RANK", "WORLD_SIZE", "LOCAL_", "TORCHELASTIC_")


def _mpirun() -> str | None:
    """mpirun of the MPI that mpi4py uses: beside this interpreter, else on PATH."""
    beside = Path(sys.executable).with_name("mpirun")
    return str(beside) if beside.exists() else shutil.which("mpirun")


def _command(launcher: str) -> list[str]:
    python, folder = sys.executable, Path(sys.executable).parent
    if launcher == "single":
        return [python]
    if launcher == "torchrun":
        return [python, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    if launcher == "deepspeed":
        program = folder / "deepspeed" if (folder / "deepspeed").exists() else shutil.which("deepspeed")
        return [str(program), "-q", "--num_accelerators=2", f"--master_port={free_port()}", "--no_local_rank"]
    program = _mpirun()
    if program is None:
        pytest.skip("no mpirun here (pip install mpich brings one)")
    probe = subprocess.run([python, "-c", "from mpi4py import MPI"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"mpi4py finds no MPI library: {probe.stderr.strip().splitlines()[-1]}")
    return [program, "-n", "2", python]


def _run(launcher: str, script: Path) -> list[list[str]]:
    environ = {n: v for n, v in os.environ.items() if not n.startswith(FOREIGN)}
    environ |= {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "DS_ACCELERATOR": "cpu",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environ.get('PATH', '')}",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    results = script.with_name(launcher)
    results.mkdir()
    command = [*_command(launcher), str(script), str(results)]
    run = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return [path.read_text().split(" ", 4) for path in sorted(results.iterdir())]


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("launch") / "two_steps.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture(scope="module")
def single(script: Path) -> list[str]:
    ((launcher, rank, world_size, local_rank, losses),) = _run("single", script)
    assert (launcher, rank, world_size, local_rank) == ("single", "0", "1", "0")
    return _rounded(losses)


@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed", "mpirun"])
def test_two_ranks_train_as_one_does(script: Path, single: list[str], launcher: str) -> None:
    results = _run(launcher, script)
    assert [result[1:4] for result in results] == [["0", "2", "0"], ["1", "2", "1"]]
    assert {result[0] for result in results} <= {launcher, "mpich", "openmpi"}
    assert results[0][4] == results[1][4]
    assert _rounded(results[0][4]) == single


def test_mpi4py_without_an_mpi_is_told_how_to_go_on(tmp_path: Path) -> None:
    """A real mpi4py that is pointed at a library which does not exist raises RuntimeError, not ImportError."""
    pytest.importorskip("mpi4py")
    code = (
        "from smoe_ds.parallel.env import Env\n"
        "from smoe_ds.parallel.mpi import agree_on_meeting_point\n"
        "from smoe_ds.errors import LaunchError\n"
        "try:\n    agree_on_meeting_point(Env(0, 2, 0, 2, None, None, 'mpich'))\n"
        "except LaunchError as error:\n    print(error)\n"
    )
    environ = os.environ | {"MPI4PY_LIBMPI": str(tmp_path / "libmpi.so"), "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert "mpich: MASTER_ADDR and MASTER_PORT are not set, and mpi4py cannot be used" in run.stdout


def _rounded(losses: str) -> list[str]:
    return [f"{float(loss):.5f}" for loss in losses.strip("[]").split(",")]
