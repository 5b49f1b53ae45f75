"""Where a step's time goes: waiting for data, forward, backward, exchange of rows between ranks, optimizer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

PHASES = ("data", "forward", "backward", "exchange", "optimizer")
"""``exchange``: what forward and backward wait for rows of other ranks; it does not count in those. ``optimizer``:
DeepSpeed's step, and the exchange of gradients in it."""


class PhaseClock:
    """Adds up the time of each phase until it is taken.

    On a GPU it is the time on the device between two marks in its stream, so that nothing waits for a clock.

    Args:
        device: where the rank computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_device = device.type == "cuda"
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._marks: list[tuple[str, str | None, torch.cuda.Event, torch.cuda.Event]] = []
        self._current: str | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """The time of this block is of a phase, one of `PHASES`; an inner block's counts only there."""
        outer, self._current = self._current, name
        on_device = self._on_device and name != "data"
        start = _mark() if on_device else None
        began = time.perf_counter()
        try:
            yield
        finally:
            self._current = outer
            if start is not None:
                self._marks.append((name, outer, start, _mark()))
            else:
                self._add(name, outer, time.perf_counter() - began)

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """Waiting for rows; what is outside of a step, as in validation, is not counted."""
        if self._current is None:
            yield
        else:
            with self.phase("exchange"):
                yield

    def take(self) -> dict[str, float]:
        """Seconds of each phase since the last call [s]; waits for the device."""
        if self._marks:
            self._marks[-1][-1].synchronize()
        for name, outer, start, end in self._marks:
            self._add(name, outer, start.elapsed_time(end) / 1000)
        self._marks.clear()
        taken, self._seconds = self._seconds, dict.fromkeys(PHASES, 0.0)
        return taken

    def _add(self, name: str, outer: str | None, seconds: float) -> None:
        self._seconds[name] += seconds
        if outer is not None:
            self._seconds[outer] -= seconds


def _mark() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
