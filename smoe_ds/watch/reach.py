"""Whether the hosts still reach each other: datagrams between the watchers of different hosts.

Files alone cannot tell. Where storage has a network of its own, every rank goes on telling by its file how well it is
while none hears another in a collective. A watcher counts as out of reach only after it has been heard: where
datagrams are not let through, nothing is known and nothing is concluded.

All watchers ask rank 0's, at the address where the ranks meet. It sees where they ask from, and tells those that
listen, one a host, of each other.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ASKS_PER_TAKING = 64
"""Asks, or reads of files, after which what has come is taken: a receive buffer may hold only some 250 datagrams."""

_LONGEST = 512  # bytes of a datagram
_ASKS_PER_LOOKUP = 10  # while rank 0's address is not known: a look-up of its name may block for seconds
_MAPPED = "::ffff:"  # before an IPv4 address, as a socket of both families shows it


@dataclass(frozen=True)
class Place:
    """Where a watcher listens.

    Attributes:
        address: of its host.
        port: there.
        token: of its beats; who knows it is answered.
    """

    address: str
    port: int
    token: str


class Reach:
    """One watcher's end of the lines.

    Args:
        rank: the watcher's rank.
        address: host of rank 0, as the ranks meet there.
        token: of this watcher's beats.
        longest_pause: most that one look adds to a silence [s].
        listens: whether watchers other than rank 0's, which is always asked, may ask it.

    Attributes:
        quiet: time since each watcher was heard [s]; by rank, those alone that have been.
        port: where it listens; None where it does not.
        senders: addresses that others have asked from, by rank.
    """

    def __init__(self, rank: int, address: str, token: str, longest_pause: float, *, listens: bool) -> None:
        self._rank, self._address, self._token = rank, address, token
        self._longest_pause = longest_pause
        self._looked: float | None = None
        self._asked: tuple[str, int] | None = None
        self._asks = 0  # at where rank 0's listens now
        self._to_zero: socket.socket | None = None
        self._own = _listening() if listens else None
        self._places: dict[int, Place] = {}
        self.quiet: dict[int, float] = {}
        self.port: int | None = int(self._own.getsockname()[1]) if self._own else None
        self.senders: dict[int, str] = {}

    def files(self) -> list[socket.socket]:
        """What to wait for besides other things."""
        return [end for end in (self._own, self._to_zero) if end is not None]

    def ask(self, beat: Mapping[str, Any]) -> None:
        """Asks rank 0's watcher whether it is there.

        Args:
            beat: its last one.
        """
        where = (str(beat.get("token")), int(beat.get("port") or 0))
        if where != self._asked:
            self._asked, self._asks = where, 0
        if self._asks == 0 or (self._to_zero is None and self._asks % _ASKS_PER_LOOKUP == 0):
            self._connect(where[1])
        self._asks += 1
        if self._to_zero is not None:
            with contextlib.suppress(OSError):  # nothing listens there, or the network is gone: the silence will tell
                self._to_zero.send(f"{where[0]} {self._rank}".encode())

    def ask_others(self, places: Mapping[int, Place]) -> None:
        """Asks the watchers of further hosts; one that is no longer among them, or is another, is forgotten.

        Takes what comes meanwhile, and answers it.

        Args:
            places: where they listen, by rank; rank 0's and this one's are passed over.
        """
        if self._own is None:
            return
        places = {rank: place for rank, place in places.items() if rank not in (0, self._rank)}
        for rank, old in self._places.items():
            if places.get(rank) != old:
                self.quiet.pop(rank, None)
        self._places = places
        for number, place in enumerate(places.values(), start=1):
            with contextlib.suppress(OSError):
                found = socket.getaddrinfo(
                    place.address,
                    place.port,
                    self._own.family,
                    socket.SOCK_DGRAM,
                    flags=socket.AI_NUMERICHOST | socket.AI_V4MAPPED,
                )
                self._own.sendto(f"{place.token} {self._rank}".encode(), found[0][4])
            if number % ASKS_PER_TAKING == 0:
                self.receive()

    def receive(self) -> None:
        """Takes what has come, and answers it."""
        for end in self.files():
            while True:
                try:
                    data, sender = end.recvfrom(_LONGEST)
                except OSError:  # nothing more, or word that an earlier one was not delivered
                    break
                token, _, rank = data.decode("utf-8", "replace").partition(" ")
                if rank.isdecimal():
                    self._take(end, token, int(rank), sender)

    def look(self, now: float) -> None:
        """Lets time pass; what this process slept through is no silence of others.

        Args:
            now: this process's monotonic time [s].
        """
        passed = 0.0 if self._looked is None else min(now - self._looked, self._longest_pause)
        self._looked = now
        for rank in self.quiet:
            self.quiet[rank] += passed

    def _take(self, end: socket.socket, token: str, rank: int, sender: Any) -> None:
        if end is self._to_zero:
            if self._asked is not None and (token, rank) == (self._asked[0], 0):
                self.quiet[0] = 0.0
        elif token == self._token:
            if self._rank == 0:
                self.senders[rank] = str(sender[0]).removeprefix(_MAPPED)
            if self._rank == 0 or rank in self._places:
                self.quiet[rank] = 0.0
            with contextlib.suppress(OSError):
                end.sendto(f"{token} {self._rank}".encode(), sender)
        elif rank in self._places and token == self._places[rank].token:
            self.quiet[rank] = 0.0

    def _connect(self, port: int) -> None:
        if self._to_zero is not None:
            self._to_zero.close()
            self._to_zero = None
        with contextlib.suppress(OSError):
            family, kind, protocol, _, address = socket.getaddrinfo(self._address, port, type=socket.SOCK_DGRAM)[0]
            end = socket.socket(family, kind, protocol)
            try:
                end.setblocking(False)
                end.connect(address)
            except OSError:  # no way there yet
                end.close()
                raise
            self._to_zero = end


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
