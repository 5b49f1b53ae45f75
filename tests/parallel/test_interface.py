"""The interface on the route to the meeting point is taken, on hosts that have several."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from smoe_ds.errors import LaunchError
from smoe_ds.parallel.env import Env
from smoe_ds.parallel.interface import choose_interface, interface_towards
from smoe_ds.parallel.ports import free_port
from tests.helpers.environment import own_environment
from tests.helpers.hosts import Host, two_hosts, why_not

SCRIPT = """
import os
import torch
import torch.distributed as dist
from smoe_ds.parallel.launchers import discover
from smoe_ds.parallel.process_group import init_distributed, shutdown

env = init_distributed(discover(), torch.device("cpu"), timeout=60)
total = torch.tensor([env.rank + 1])
dist.all_reduce(total)
print(os.environ["GLOO_SOCKET_IFNAME"], int(total))
shutdown()
"""


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts that have another interface, with an address, beside the one of their link."""
    if reason := why_not():
        pytest.skip(reason)
    with two_hosts() as pair:
        for host in pair:
            commands = (
                "link add aside type veth peer name over",
                "address add 10.78.0.1/24 dev aside",
                "link set aside up",
            )
            for command in commands:
                subprocess.run(["ip", "-n", host.namespace, *command.split()], check=True)
        yield pair


def _on(host: Host, rank: int, port: int) -> subprocess.Popen[str]:
    ranks = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_PORT": str(port)}
    environment = own_environment(**ranks, MASTER_ADDR="10.77.0.1")
    command = ["env", "-u", "GLOO_SOCKET_IFNAME", sys.executable, "-c", SCRIPT]
    return host.start(command, environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.netns
@pytest.mark.multirank
def test_two_hosts_talk_through_the_link_between_them(hosts: tuple[Host, Host]) -> None:
    port = free_port()
    ranks = [_on(host, rank, port) for rank, host in enumerate(hosts)]
    try:
        outputs = [rank.communicate(timeout=90) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    for host, (output, errors) in zip(hosts, outputs, strict=True):
        assert output == f"{host.interface} 3\n", errors


def test_the_way_through_the_loopback_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.delenv("NCCL_SOCKET_IFNAME", raising=False)
    assert interface_towards("127.0.0.1") is None
    choose_interface(Env(0, 2, 0, 1, "127.0.0.9", 1, "slurm"), cuda=True)
    assert not {"GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"} & set(os.environ)


@pytest.mark.skipif(not Path("/sys/class/net/lo").exists(), reason="needs Linux")
def test_ranks_on_one_host_use_the_loopback_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    env = Env(0, 2, 0, 2, "127.0.0.1", 1, "torchrun")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nosuch0")
    with pytest.raises(LaunchError, match=r"is 'nosuch0', but .* has no nosuch0, only .*lo.*; set it to"):
        choose_interface(env, cuda=False)


def test_a_name_that_nobody_knows_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    with pytest.raises(LaunchError, match=r"MASTER_ADDR 'no-such-host\.invalid' cannot be looked up on"):
        choose_interface(Env(1, 2, 0, 1, "no-such-host.invalid", 1, "slurm"), cuda=False)
