"""Which network interface the ranks talk through: the one on the route to the meeting point, unless it is set.

Left alone, gloo takes the interface of this host's name, which on many systems is the loopback, and NCCL the first one
that it finds, which may be a container's bridge or a management network.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil

from smoe_ds.errors import LaunchError
from smoe_ds.parallel.env import Env

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of the meeting point of ranks on one host."""


def choose_interface(env: Env, *, cuda: bool) -> None:
    """Sets GLOO_SOCKET_IFNAME, and with CUDA NCCL_SOCKET_IFNAME, where they are not set.

    Args:
        env: this process; the meeting point is known.
        cuda: whether NCCL is used.

    Raises:
        LaunchError: the meeting point's name means nothing here, or GLOO_SOCKET_IFNAME names no interface.
    """
    if "GLOO_SOCKET_IFNAME" in os.environ:
        _check_given(os.environ["GLOO_SOCKET_IFNAME"])
    if env.master_addr in LOOPBACK:
        if not cuda and Path("/sys/class/net/lo").exists():
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else gloo asks for the address of this host's name
        return
    name = interface_towards(str(env.master_addr))
    if name is None:
        return
    os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
    if cuda:
        os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={name}")  # "=": this one, not all that begin like it


def interface_towards(host: str) -> str | None:
    """Name of the interface from which this host reaches another, or itself.

    Args:
        host: name or address.

    Returns:
        None where the way leads through the loopback: the host's name stands for it here, and the other hosts may
        know a better address.

    Raises:
        LaunchError: nobody knows the name.
    """
    try:
        found = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)  # connecting sends nothing; any port will do
    except OSError as error:
        raise LaunchError(
            f"MASTER_ADDR {host!r} cannot be looked up on {socket.gethostname()} ({error}); set MASTER_ADDR to a name "
            "or an address of the first host that all hosts know"
        ) from error
    for family, kind, _, _, address in found:
        with socket.socket(family, kind) as probe:
            try:
                probe.connect(address)
            except OSError:
                continue
            own = str(probe.getsockname()[0])
        name = _interface_of(own)
        return None if name is None or own.startswith("127.") or own == "::1" else name
    return None


def _interface_of(address: str) -> str | None:
    """The interface that has an address."""
    for name, entries in psutil.net_if_addrs().items():
        if any(entry.address.partition("%")[0] == address for entry in entries):
            return name
    return None


def _check_given(text: str) -> None:
    known = list(psutil.net_if_addrs())
    missing = [name for name in text.split(",") if name not in known]
    if missing:
        raise LaunchError(
            f"GLOO_SOCKET_IFNAME is {text!r}, but {socket.gethostname()} has no {' and no '.join(missing)}, only "
            f"{', '.join(known)}; set it to an interface that all hosts have, or unset it"
        )
