"""Whether gloo and NCCL are told which network to use where a host has several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from smoe_ds.doctor.context import Context
from smoe_ds.doctor.finding import FAILED, NOTE, OK, SKIPPED, Finding

_VIRTUAL = ("lo", "docker", "virbr", "veth", "br-", "cni", "flannel", "dummy")


def check_interfaces(context: Context) -> Iterator[Finding]:
    """Names in GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME that exist, and several networks without a choice."""
    names = _interfaces()
    backend = "nccl" if context.device.type == "cuda" else "gloo"
    several = len(context.meeting.speakers) > 1
    yield interface_finding(backend, names, context.environ, several_hosts=several)


def interface_finding(
    backend: str, names: Sequence[str], environ: Mapping[str, str], *, several_hosts: bool
) -> Finding:
    """What this host's interfaces mean for a backend.

    Args:
        backend: ``gloo`` or ``nccl``.
        names: interfaces that are up and have an address.
        environ: environment variables.
        several_hosts: whether the ranks are on more than one host.
    """
    variable = f"{backend.upper()}_SOCKET_IFNAME"
    wanted, real = environ.get(variable), [name for name in names if not name.startswith(_VIRTUAL)]
    if wanted:
        chosen = [name for name in names if (matches_nccl if backend == "nccl" else matches_gloo)(wanted, name)]
        if not chosen:
            return Finding(
                FAILED,
                f"{variable} is {wanted}, this host has {', '.join(names)}",
                f"set {variable} to one of them that reaches the other hosts",
            )
        return Finding(OK, f"{variable} is {wanted}: {', '.join(chosen)}")
    if not several_hosts:
        return Finding(SKIPPED, "skipped because all ranks are on one host")
    if len(real) > 1:
        return Finding(
            NOTE,
            f"this host has {', '.join(real)}, and {variable} does not say which to use",
            f"export {variable} with the one that reaches the other hosts, or the wrong one may be taken",
        )
    return Finding(OK, f"one interface, {', '.join(real) or ', '.join(names)}, so {variable} need not be set")


def matches_gloo(wanted: str, name: str) -> bool:
    """gloo takes exact names."""
    return name in wanted.split(",")


def matches_nccl(wanted: str, name: str) -> bool:
    """NCCL takes beginnings of names, exact ones after ``=``, and after ``^`` all others (``^=``: but the exact)."""
    without, rest = wanted.startswith("^"), wanted.removeprefix("^")
    exact, rest = rest.startswith("="), rest.removeprefix("=")
    meant = any(name == one if exact else name.startswith(one) for one in rest.split(","))
    return meant != without


def _interfaces() -> list[str]:
    import socket

    import psutil

    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    internet = (socket.AF_INET, socket.AF_INET6)
    with_address = (n for n, found in psutil.net_if_addrs().items() if any(a.family in internet for a in found))
    return sorted(name for name in with_address if name in up)
