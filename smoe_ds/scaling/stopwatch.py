"""Seconds of a piece of work that all ranks do at the same time, as a training step would see them."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from smoe_ds.parallel.agreement import gather_json

_SHORTEST = 0.02  # one reading covers at least so much time [s]
_MOST_CALLS = 200


class Stopwatch:
    """Times work on every rank at once: a reading begins together and counts as long as on the slowest rank.

    Args:
        device: what the work runs on.
        repeats: readings; the shortest counts, since whatever else is going on only adds to it.
    """

    def __init__(self, device: torch.device, repeats: int) -> None:
        self._device = device
        self._repeats = repeats

    def seconds(self, work: Callable[[], object]) -> float:
        """Seconds of one call of ``work``, after calls that do not count. A collective, if there is a process group.

        Args:
            work: done over and over; the same on all ranks.
        """
        self._reading(work, 1)
        calls = round(_SHORTEST / max(self._reading(work, 1), 1e-9))
        calls = min(_MOST_CALLS, max(1, calls))
        return min(self._reading(work, calls) for _ in range(self._repeats))

    def _reading(self, work: Callable[[], object], calls: int) -> float:
        self._wait_for_device()
        if dist.is_initialized():
            dist.barrier()
        began = time.perf_counter()
        for _ in range(calls):
            work()
        self._wait_for_device()
        return max(gather_json((time.perf_counter() - began) / calls))

    def _wait_for_device(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
