"""Hosts that are really apart on one machine: network namespaces with an address each and a link of any speed."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


def why_not() -> str | None:
    """Why network namespaces cannot be made here; None if they can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "needs Linux and root"
    for tool in ("ip", "tc"):
        if shutil.which(tool) is None:
            return f"needs {tool} (Debian package iproute2)"
    name = f"probe-{uuid.uuid4().hex[:8]}"
    probe = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if probe.returncode:
        return f"ip netns add: {probe.stderr.strip()}"
    _ip("netns", "del", name)
    return None


_NEW_UTS, _NEW_NET = 0x04000000, 0x40000000  # CLONE_NEWUTS, CLONE_NEWNET of Linux


@dataclass(frozen=True)
class Host:
    """A network namespace.

    Attributes:
        namespace: its name, and the name of the host.
        interface: its end of the link.
        address: its address there.
    """

    namespace: str
    interface: str
    address: str

    def start(self, command: Sequence[str], environment: dict[str, str], **options: object) -> subprocess.Popen[str]:
        """Start a command there, in a process group of its own, with gloo on the link."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.namespace]
        return subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, *named, *command],
            env={**os.environ, "GLOO_SOCKET_IFNAME": self.interface, **environment},
            text=True,
            start_new_session=True,
            **options,  # type: ignore[call-overload]
        )

    def enter(self) -> None:
        """From now on the calling process runs there, with gloo on the link."""
        libc = ctypes.CDLL(None, use_errno=True)
        with (Path("/run/netns") / self.namespace).open("rb") as namespace:
            for failed in (libc.setns(namespace.fileno(), _NEW_NET), libc.unshare(_NEW_UTS)):
                if failed:
                    raise OSError(ctypes.get_errno(), f"entering {self.namespace}")
        socket.sethostname(self.namespace)
        os.environ["GLOO_SOCKET_IFNAME"] = self.interface

    def cut_off(self) -> None:
        """Nothing reaches it, or comes from it."""
        _ip("-n", self.namespace, "link", "set", self.interface, "down")

    def cut_off_from(self, other: Host) -> None:
        """Nothing goes from here to another host; the rest of the network is as before."""
        _ip("-n", self.namespace, "route", "add", "blackhole", f"{other.address}/32")

    def reconnect(self) -> None:
        """The link is up again."""
        _ip("-n", self.namespace, "link", "set", self.interface, "up")


@contextmanager
def two_hosts(megabits_per_second: float | None = None) -> Iterator[tuple[Host, Host]]:
    """Two hosts on a link; namespaces and link are gone afterwards.

    Args:
        megabits_per_second: speed of the link in each direction; None: as fast as it goes.
    """
    with _namespaces(2) as hosts:
        _ip("link", "add", hosts[0].interface, "type", "veth", "peer", "name", hosts[1].interface)
        for host in hosts:
            _ip("link", "set", host.interface, "netns", host.namespace)
            _start(host)
            if megabits_per_second is not None:
                rate = ["rate", f"{megabits_per_second}mbit", "burst", "256kb", "latency", "50ms"]
                _run("tc", "-n", host.namespace, "qdisc", "add", "dev", host.interface, "root", "tbf", *rate)
        yield hosts[0], hosts[1]


@contextmanager
def hosts_on_a_switch(number: int) -> Iterator[tuple[Host, ...]]:
    """Hosts that all reach each other over a switch; it and the namespaces are gone afterwards."""
    switch = f"s{uuid.uuid4().hex[:8]}"
    with _namespaces(number) as hosts:
        _ip("netns", "add", switch)  # in a namespace of its own, where no firewall looks at bridged packets
        try:
            _ip("-n", switch, "link", "add", switch, "type", "bridge")
            _ip("-n", switch, "link", "set", switch, "up")
            for host in hosts:
                port = f"{host.interface}s"
                _ip(
                    "link",
                    "add",
                    host.interface,
                    "netns",
                    host.namespace,
                    "type",
                    "veth",
                    "peer",
                    port,
                    "netns",
                    switch,
                )
                _ip("-n", switch, "link", "set", port, "master", switch, "up")
                _start(host)
            yield hosts
        finally:
            subprocess.run(["ip", "netns", "del", switch], capture_output=True, check=False)


@contextmanager
def _namespaces(number: int) -> Iterator[tuple[Host, ...]]:
    tag = uuid.uuid4().hex[:6]
    hosts = tuple(Host(f"smoe-{tag}-{n}", f"v{tag}{n}", f"10.77.0.{n + 1}") for n in range(number))
    try:
        for host in hosts:
            _ip("netns", "add", host.namespace)
        yield hosts
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "del", host.namespace], capture_output=True, check=False)


def _start(host: Host) -> None:
    """Its interfaces come up."""
    _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", host.interface)
    for interface in ("lo", host.interface):
        _ip("-n", host.namespace, "link", "set", interface, "up")


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def bytes_sent(host: Host) -> int:
    """Bytes that left a host over the link so far, headers included."""
    path = Path("/sys/class/net") / host.interface / "statistics/tx_bytes"
    command = ["ip", "netns", "exec", host.namespace, "cat", str(path)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
