"""Launchers as a user starts them, one on each host: cut off under one, gone on with under the other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smoe_ds.parallel.ports import free_port
from tests.helpers.apart import apart_run
from tests.helpers.environment import ROOT
from tests.helpers.hosts import Host, two_hosts
from tests.helpers.own_ranks import await_none_that_mention
from tests.helpers.ranks import run_ranks
from tests.helpers.small_run import scalars, train_on_rank

pytestmark = [pytest.mark.multirank, pytest.mark.netns, pytest.mark.slow]

STEPS = 16


def torchrun(number: int, hosts: tuple[Host, Host], port: int, folder: Path) -> list[str]:
    meeting = [f"--master-addr={hosts[0].address}", f"--master-port={port}", f"--node-rank={number}"]
    program = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=2", *meeting]
    return [*program, "-m", "smoe_ds", "train", str(folder / "run.json")]


def deepspeed(number: int, hosts: tuple[Host, Host], port: int, folder: Path) -> list[str]:
    hostfile = folder / "hostfile"
    hostfile.write_text("".join(f"{host.address} slots=2\n" for host in hosts))
    program = [str(Path(sys.executable).with_name("deepspeed")), "-q", "--hostfile", str(hostfile), "--no_ssh"]
    meeting = [f"--node_rank={number}", f"--master_addr={hosts[0].address}", f"--master_port={port}"]
    return [*program, *meeting, "--module", "smoe_ds", "train", str(folder / "run.json")]


class Started:
    """A launcher on each host; what is left of them is ended on the way out."""

    def __init__(self, launcher: object, hosts: tuple[Host, Host], folder: Path, name: str) -> None:
        port = free_port()
        self.outputs = [folder / f"{name}-{number}" for number in range(2)]
        environment = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT)}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.launchers = []
        for number, host in enumerate(hosts):
            with self.outputs[number].open("w") as output:
                command = launcher(number, hosts, port, folder)  # type: ignore[operator]
                streams = {"stdout": output, "stderr": subprocess.STDOUT, "cwd": folder}
                self.launchers.append(host.start(command, environment, **streams))

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        for launcher in self.launchers:
            if launcher.poll() is None:
                os.killpg(launcher.pid, 9)
            launcher.wait()

    def output(self, number: int) -> str:
        return self.outputs[number].read_text()

    def until(self, text: str) -> None:
        end = time.monotonic() + 90
        while text not in self.output(0):
            assert time.monotonic() < end and self.launchers[0].poll() is None, self.output(0) + self.output(1)
            time.sleep(0.02)

    def codes(self, timeout: float) -> list[int]:
        end = time.monotonic() + timeout
        return [launcher.wait(max(0.1, end - time.monotonic())) for launcher in self.launchers]


def test_torchrun_is_cut_off_and_deepspeed_goes_on(tmp_path: Path, corpus_folder: Path) -> None:
    folder = tmp_path / "apart"
    apart_run(folder, corpus_folder, 4, max_steps=STEPS)
    one = apart_run(tmp_path / "one", corpus_folder, 1, max_steps=STEPS)
    with two_hosts() as hosts:
        with Started(torchrun, hosts, folder, "torchrun") as run:
            run.until("step 3/")
            hosts[1].cut_off()
            assert all(code != 0 for code in run.codes(60))
            for number in range(2):
                assert "have not reached each other for" in run.output(number)
        await_none_that_mention(str(folder))
        hosts[1].reconnect()
        with Started(deepspeed, hosts, folder, "deepspeed") as run:
            assert run.codes(120) == [0, 0], run.output(0) + run.output(1)
            assert "continuing after step " in run.output(0) and "(deepspeed)" in run.output(0)
    assert run_ranks(train_on_rank, 1, str(one), [], init=False) == [0]
    alone = scalars(tmp_path / "one" / "run")["train/nll"]
    assert sorted(alone) == list(range(1, STEPS + 1))
    assert scalars(folder / "run")["train/nll"] == pytest.approx(alone, rel=1e-5)
