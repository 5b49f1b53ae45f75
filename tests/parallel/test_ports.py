"""Free ports are free, and stay so: the kernel gives them to nobody else meanwhile."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from smoe_ds.parallel import ports
from smoe_ds.parallel.ports import free_port


def test_a_port_is_free_and_not_of_the_kernels_own() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(50):
        port = free_port()
        assert 10_000 <= port < first and port != 29_500
        with socket.socket() as listener:
            listener.bind(("", port))


def test_a_taken_port_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        drawn = iter([taken.getsockname()[1], 29_500, free := free_port()])
        monkeypatch.setattr(ports.random, "SystemRandom", lambda: _Drawn(drawn))
        assert free_port() == free


def test_without_a_free_port_the_reason_is_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(ports.random, "SystemRandom", lambda: _Drawn(iter([port] * 100)))
        with pytest.raises(OSError, match="in use"):
            free_port()


@pytest.mark.parametrize(
    ("told", "below"), [("32768\t60999\n", 32_768), ("1024 65535", 65_536), ("", 32_768), (None, 32_768)]
)
def test_the_kernels_range_as_the_system_tells_it(
    told: str | None, below: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "range"
    if told is not None:
        file.write_text(told)
    monkeypatch.setattr(ports, "_KERNELS_OWN", file)
    assert ports._first_of_the_kernels() == below


class _Drawn:
    def __init__(self, numbers: object) -> None:
        self.numbers = numbers

    def randrange(self, *_: int) -> int:
        return next(self.numbers)  # type: ignore[call-overload, no-any-return]
