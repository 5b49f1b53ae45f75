"""``smoe-ds doctor`` on two hosts that are really apart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from smoe_ds.parallel.ports import free_port
from tests.helpers.environment import own_environment
from tests.helpers.hosts import two_hosts
from tests.helpers.small_run import small_run, write_run

pytestmark = [pytest.mark.netns, pytest.mark.multirank]


def test_two_hosts(tmp_path: Path, corpus_folder: Path) -> None:
    run = write_run(tmp_path / "run.json", small_run(tmp_path / "run", corpus_folder))
    with two_hosts() as hosts:
        common = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": hosts[0].address}
        common["MASTER_PORT"] = str(free_port())
        processes = [
            host.start(
                [sys.executable, "-m", "smoe_ds", "doctor", str(run)],
                {**own_environment(**common, RANK=str(rank)), "GLOO_SOCKET_IFNAME": host.interface},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,  # PyTorch finds no name for an address
            )
            for rank, host in enumerate(hosts)
        ]
        try:
            printed, nothing = (process.communicate(timeout=120)[0] for process in processes)
        finally:
            for process in processes:
                process.kill()
    assert nothing == ""
    assert [process.returncode for process in processes] == [0, 0], printed
    first, second = (host.namespace for host in hosts)
    assert "environment: 2 ranks, 1 on each of 2 hosts, all here" in printed
    assert f"{first} and {second}: " in printed and "each way when both send" in printed
    assert f"host {second}: its clock is" in printed
    assert f"GLOO_SOCKET_IFNAME is {hosts[1].interface}: {hosts[1].interface}" in printed
    assert "every rank and rank 0 read what the other wrote" in printed
