"""Whether the hosts still reach each other: datagrams between rank 0's watcher and the others'.

Files alone cannot tell. Where storage has a network of its own, every rank goes on telling by its file how well it is
while none hears another in a collective. A watcher counts as out of reach only after it has been heard: where
datagrams are not let through, nothing is known and nothing is concluded.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

_LONGEST = 512  # bytes of a datagram


class Reach:
    """One watcher's end of the line.

    Rank 0's answers whoever knows its token, which is in its beats; the others ask it.

    Args:
        rank: the watcher's rank.
        address: host of rank 0, as the ranks meet there.
        token: of this watcher's beats.
        longest_pause: most that one look adds to a silence [s].

    Attributes:
        quiet: time since each watcher was heard [s]; by rank, those alone that have been.
        port: where rank 0's listens; None for others.
    """

    def __init__(self, rank: int, address: str, token: str, longest_pause: float) -> None:
        self._rank, self._address, self._token = rank, address, token
        self._longest_pause = longest_pause
        self._looked: float | None = None
        self._asked: tuple[str, int] | None = None
        self._socket: socket.socket | None = None
        self.quiet: dict[int, float] = {}
        self.port: int | None = None
        if rank == 0:
            self._socket = _listening()
            self.port = int(self._socket.getsockname()[1])

    def files(self) -> list[socket.socket]:
        """What to wait for besides other things."""
        return [] if self._socket is None else [self._socket]

    def ask(self, beat: dict[str, Any]) -> None:
        """Asks rank 0's watcher whether it is there.

        Args:
            beat: its last one.
        """
        where = (str(beat.get("token")), int(beat.get("port") or 0))
        if where != self._asked:
            self._asked = where
            self._connect(where[1])
        if self._socket is not None:
            with contextlib.suppress(OSError):  # nothing listens there, or the network is gone: the silence will tell
                self._socket.send(f"{where[0]} {self._rank}".encode())

    def receive(self) -> None:
        """Takes what has come, and answers it."""
        while self._socket is not None:
            try:
                data, sender = self._socket.recvfrom(_LONGEST)
            except OSError:  # nothing more, or word that an earlier one was not delivered
                return
            token, _, rank = data.decode("utf-8", "replace").partition(" ")
            if self._rank == 0 and token == self._token and rank.isdecimal():
                self.quiet[int(rank)] = 0.0
                with contextlib.suppress(OSError):
                    self._socket.sendto(f"{token} 0".encode(), sender)
            elif self._rank and self._asked is not None and (token, rank) == (self._asked[0], "0"):
                self.quiet[0] = 0.0

    def look(self, now: float) -> None:
        """Lets time pass; what this process slept through is no silence of others.

        Args:
            now: this process's monotonic time [s].
        """
        passed = 0.0 if self._looked is None else min(now - self._looked, self._longest_pause)
        self._looked = now
        for rank in self.quiet:
            self.quiet[rank] += passed

    def _connect(self, port: int) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        with contextlib.suppress(OSError):
            family, kind, protocol, _, address = socket.getaddrinfo(self._address, port, type=socket.SOCK_DGRAM)[0]
            self._socket = socket.socket(family, kind, protocol)
            self._socket.setblocking(False)
            self._socket.connect(address)


def _listening() -> socket.socket:
    """A socket on a free port of all addresses, of both families where there are two."""
    try:
        found = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        found.bind(("::", 0))
    except OSError:
        found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        found.bind(("", 0))
    found.setblocking(False)
    return found
