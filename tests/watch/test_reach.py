"""Datagrams between watchers: heard once, silence counts; never heard, nothing is known."""

from __future__ import annotations

import select
import socket
import time
from typing import Any

import pytest

from smoe_ds.watch.reach import Place, Reach

ADDRESS = "127.0.0.1"


def pair(rank: int = 2) -> tuple[Reach, Reach, dict[str, Any]]:
    """Rank 0's end, another one's, and what rank 0's beats say of it."""
    zero = Reach(0, ADDRESS, "zero", longest_pause=2.0, listens=True)
    other = Reach(rank, ADDRESS, "other", longest_pause=2.0, listens=False)
    return zero, other, {"token": "zero", "port": zero.port}


def take(end: Reach, *, comes: bool = True) -> None:
    """Takes what is on its way."""
    ready, *_ = select.select(end.files(), [], [], 10 if comes else 0.2)
    assert bool(ready) == comes
    end.receive()


def test_both_hear_each_other() -> None:
    zero, other, beat = pair()
    assert (zero.quiet, other.quiet) == ({}, {})
    other.ask(beat)
    take(zero)
    take(other)
    assert (zero.quiet, other.quiet) == ({2: 0.0}, {0: 0.0})
    for now in (0.0, 1.5, 100.0):  # the last one: this process slept
        zero.look(now)
    assert zero.quiet == {2: 3.5}
    other.ask(beat)
    take(zero)
    assert zero.quiet == {2: 0.0}


def test_who_does_not_know_the_token_is_not_heard() -> None:
    zero, other, beat = pair()
    other.ask(beat | {"token": "of another run"})
    take(zero)
    assert zero.quiet == {}
    take(other, comes=False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for text in (b"", b"zero", b"zero -1", b"zero one", b"\xff\xff 1", b"x" * 9000):
            stranger.sendto(text, (ADDRESS, zero.port or 0))
            take(zero)
    assert zero.quiet == {}


def test_where_nothing_is_let_through_nothing_is_known() -> None:
    _, other, beat = pair()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((ADDRESS, 0))
        closed = probe.getsockname()[1]
    for now in range(5):
        other.ask(beat | {"port": closed})
        other.receive()
        other.look(now)
    assert other.quiet == {}
    unknown = Reach(1, "no.such.host.invalid", "other", longest_pause=2.0, listens=False)
    unknown.ask(beat)
    unknown.receive()
    assert unknown.quiet == {} and unknown.files() == []


def test_a_new_watcher_of_rank_0_is_asked_where_it_listens() -> None:
    zero, other, beat = pair()
    other.ask(beat)
    take(zero)
    take(other)
    again = Reach(0, ADDRESS, "again", longest_pause=2.0, listens=True)
    other.look(0.0)
    other.look(1.0)
    assert other.quiet == {0: 1.0}
    other.ask({"token": "again", "port": again.port})
    take(again)
    take(other)
    assert other.quiet == {0: 0.0}


def places(zero: Reach, **ends: Reach) -> dict[int, Place]:
    """What rank 0's watcher tells the others, from where they have asked."""
    found = {}
    for token, end in ends.items():
        rank = int(token.removeprefix("rank_"))
        found[rank] = Place(zero.senders[rank], end.port or 0, token)
    return found


def test_watchers_of_further_hosts_hear_each_other() -> None:
    zero, one, two = (Reach(n, ADDRESS, f"rank_{n}", longest_pause=2.0, listens=True) for n in range(3))
    for end in (one, two):
        end.ask({"token": "rank_0", "port": zero.port})
        take(zero)
        take(end)
    told = places(zero, rank_1=one, rank_2=two)
    assert told[1].address == ADDRESS
    one.ask_others(told)
    take(two)  # it has not been told of rank 1 yet: it answers, and concludes nothing
    take(one)
    assert (one.quiet, two.quiet) == ({0: 0.0, 2: 0.0}, {0: 0.0})
    two.ask_others(told)
    take(one)
    take(two)
    assert two.quiet == {0: 0.0, 1: 0.0}
    for now in (0.0, 1.5):
        one.look(now)
    assert one.quiet == {0: 1.5, 2: 1.5}
    one.ask_others(told)
    take(two)
    take(one)
    assert one.quiet == {0: 1.5, 2: 0.0}


def test_a_watcher_that_has_left_or_is_another_is_forgotten() -> None:
    zero, one, two = (Reach(n, ADDRESS, f"rank_{n}", longest_pause=2.0, listens=True) for n in range(3))
    for end in (one, two):
        end.ask({"token": "rank_0", "port": zero.port})
        take(zero)
    told = places(zero, rank_1=one, rank_2=two)
    for changed in ({1: told[1]}, told | {2: Place(ADDRESS, two.port or 0, "another")}):
        one.ask_others(told)
        take(two)
        while 2 not in one.quiet:
            take(one)
        one.ask_others(changed)
        assert 2 not in one.quiet


class QuicklyAnswered(Reach):
    """One whose asks have all been answered when it takes what has come.

    Args:
        others: sockets of the watchers that it asks.
    """

    def __init__(self, others: list[socket.socket]) -> None:
        super().__init__(1, ADDRESS, "rank_1", longest_pause=2.0, listens=True)
        self.others = others

    def receive(self) -> None:
        ready = select.poll()
        by_number = {end.fileno(): end for end in self.others}
        for number in by_number:
            ready.register(number, select.POLLIN)
        for number, _ in ready.poll(0):
            text, sender = by_number[number].recvfrom(512)
            token = text.decode().split()[0]
            by_number[number].sendto(f"{token} {token.removeprefix('rank_')}".encode(), sender)
        super().receive()


def test_answers_of_many_hosts_fit_the_receive_buffer() -> None:
    others = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(600)]
    try:
        for other in others:
            other.bind((ADDRESS, 0))
        told = {rank: Place(ADDRESS, other.getsockname()[1], f"rank_{rank}") for rank, other in enumerate(others, 2)}
        one = QuicklyAnswered(others)
        one.files()[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 106_496)  # Linux's own: 277 datagrams
        one.ask_others(told)
        until = time.monotonic() + 5
        while one.quiet.keys() != told.keys() and time.monotonic() < until:
            select.select(one.files(), [], [], 0.1)
            one.receive()
        assert one.quiet.keys() == told.keys()
    finally:
        for other in others:
            other.close()


def test_a_name_that_is_not_found_at_first_is_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    zero, other, beat = pair()
    original, found, lookups = socket.getaddrinfo, False, 0

    def getaddrinfo(*args: Any, **kwargs: Any) -> Any:
        nonlocal lookups
        lookups += 1
        if not found:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return original(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    for _ in range(15):
        other.ask(beat)
    assert (lookups, other.files()) == (2, [])  # a look-up may block
    found = True
    for _ in range(25):
        other.ask(beat)
    assert lookups == 3
    take(zero)
    take(other)
    assert other.quiet == {0: 0.0}


def test_an_address_without_a_way_there_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    zero, other, beat = pair()
    original = socket.getaddrinfo
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", lambda _, port, **more: original("255.255.255.255", port, **more))
        other.ask(beat)  # a socket may not connect to all hosts
        assert other.files() == []
    for _ in range(10):
        other.ask(beat)
    take(zero)
    take(other)
    assert other.quiet == {0: 0.0}
