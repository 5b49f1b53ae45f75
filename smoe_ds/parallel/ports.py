"""Free ports of this host."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_KERNELS_OWN = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST, _KERNEL_BEGINS = 10_000, 32_768
_DEFAULT_OF_TORCH = 29_500  # the port that every other job of a shared machine tries first
_TRIES = 100


def free_port() -> int:
    """A TCP port of this host that nobody listens on at this moment.

    Seconds may pass before the caller listens there. The kernel hands ports of a range of its own to every connection
    that is made meanwhile, so the port is drawn from below that range.

    Raises:
        OSError: none of a hundred ports was free.
    """
    below = _first_of_the_kernels()
    for last in reversed(range(_TRIES)):
        port = random.SystemRandom().randrange(_LOWEST, below)
        if port == _DEFAULT_OF_TORCH:
            continue
        try:
            with socket.socket() as probe:
                probe.bind(("", port))
                return port
        except OSError:
            if not last:
                raise
    raise OSError(f"no free port found between {_LOWEST} and {below}")


def _first_of_the_kernels() -> int:
    try:
        first = int(_KERNELS_OWN.read_text().split()[0])
    except (OSError, ValueError, IndexError):  # another system than Linux
        first = _KERNEL_BEGINS
    return first if first > _LOWEST + _TRIES else 1 << 16
