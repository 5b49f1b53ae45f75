"""Launchers on one host, as launch/LAUNCHERS.md writes them: the losses of one plain process, and a rank that dies."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smoe_ds.parallel.ports import free_port
from tests.helpers.environment import ROOT, own_environment
from tests.helpers.launched import launched_run, losses_alone, losses_of
from tests.helpers.own_ranks import await_none_that_mention

pytestmark = pytest.mark.multirank

TRAIN = "train RUN --set smoe.moe.ep_size=2"
MPI_LAUNCHER = f"--hostfile HOSTS --force_multi --no_ssh_check --master_addr=127.0.0.1 {ROOT}/smoe_ds/__main__.py"
COMMANDS = {
    "torchrun": f"torchrun --master-port=PORT --nproc-per-node=2 -m smoe_ds {TRAIN}",
    "deepspeed": f"deepspeed --master_port=PORT --num_gpus=2 --module smoe_ds {TRAIN}",
    "mpirun": f"mpirun -n 2 python -m smoe_ds {TRAIN}",
    "deepspeed --launcher mpich": f"deepspeed --launcher mpich {MPI_LAUNCHER} {TRAIN}",
    "deepspeed --launcher openmpi": "deepspeed --launcher openmpi --launcher_args='--mca btl_tcp_if_include lo' "
    f"{MPI_LAUNCHER} {TRAIN}",
}
OPEN_MPI = Path("/usr/lib/x86_64-linux-gnu/libmpi.so.40")
DEADLINE = 10.0


def environment_for(name: str, folder: Path) -> dict[str, str]:
    """With the MPI that the launcher is to find as ``mpirun``; skips where it is not installed."""
    environment = own_environment()
    if "openmpi" in name:
        program = shutil.which("mpirun.openmpi")
        if program is None or not OPEN_MPI.exists():
            pytest.skip("needs Open MPI (Debian package openmpi-bin)")
        (folder / "bin").mkdir()
        (folder / "bin/mpirun").symlink_to(program)
        environment |= {"PATH": f"{folder / 'bin'}{os.pathsep}{environment['PATH']}", "MPI4PY_LIBMPI": str(OPEN_MPI)}
    elif "mpi" in name and not Path(sys.executable).with_name("mpirun").exists():
        pytest.skip("needs MPICH (pip install mpich)")
    return environment


def started(name: str, file: Path) -> subprocess.Popen[str]:
    """The launcher, which writes into ``output`` beside the run file."""
    hosts = file.with_name("hosts")
    hosts.write_text("localhost slots=2\n")
    words = {"RUN": str(file), "HOSTS": str(hosts), "PORT": str(free_port())}
    command = COMMANDS[name]
    for word, value in words.items():
        command = command.replace(word, shlex.quote(value))
    with file.with_name("output").open("w") as output:
        return subprocess.Popen(
            ["sh", "-c", f"exec {command}"],
            env=environment_for(name, file.parent),
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def output_of(file: Path) -> str:
    return file.with_name("output").read_text()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, corpus_folder: Path) -> dict[int, float]:
    return losses_alone(tmp_path_factory.mktemp("alone") / "one", corpus_folder)


@pytest.mark.parametrize("name", COMMANDS)
def test_five_steps(tmp_path: Path, corpus_folder: Path, alone: dict[int, float], name: str) -> None:
    file = launched_run(tmp_path / "job", corpus_folder)
    launcher = started(name, file)
    try:
        assert launcher.wait(120) == 0, output_of(file)
    finally:
        _end(launcher)
    assert losses_of(file) == pytest.approx(alone, rel=1e-5)
    assert "on 2 rank(s)" in output_of(file)
    await_none_that_mention(str(file.parent))


@pytest.mark.parametrize("name", ["torchrun", "deepspeed", "mpirun"])
def test_a_rank_that_is_killed_ends_the_run_and_is_named(tmp_path: Path, corpus_folder: Path, name: str) -> None:
    endless = {"max_steps": 1_000_000, "death_deadline": DEADLINE, "log_every": 1}
    file = launched_run(tmp_path / "job", corpus_folder, **endless)
    launcher = started(name, file)
    try:
        _wait_for("step 2/", file, launcher)
        os.kill(_process_of_rank(1, file), signal.SIGKILL)
        assert launcher.wait(DEADLINE + 60) != 0, output_of(file)
        await_none_that_mention(str(file.parent))
    finally:
        _end(launcher)
    crash = json.loads((tmp_path / "job/run/crash.json").read_text())
    assert crash["kind"] == "vanished", crash
    # mpirun may end the others before their watchers see that rank 1 has gone
    together = name == "mpirun" and "ranks 0, 1 ended at the same moment" in crash["message"]
    assert crash["rank"] == 1 or together, crash


def _end(launcher: subprocess.Popen[str]) -> None:
    """Whatever is left of it, where a test fails."""
    if launcher.poll() is None:
        os.killpg(launcher.pid, signal.SIGKILL)
    launcher.wait()


def _wait_for(text: str, file: Path, launcher: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 90
    while text not in output_of(file):
        assert launcher.poll() is None and time.monotonic() < end, output_of(file)
        time.sleep(0.05)


def _process_of_rank(rank: int, file: Path) -> int:
    """The process that trains as this rank."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        ranks = {f"{name}={rank}".encode() for name in ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK")}
        if str(file).encode() in words and ranks & set(environment):
            return int(entry.name)
    raise AssertionError(f"no process of rank {rank}")
