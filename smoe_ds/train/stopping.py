"""When a run ends before its last step: a signal, or the time it was given."""

from __future__ import annotations

import signal
from types import FrameType

import torch
import torch.distributed as dist

EXIT_PREEMPTED = 75
"""Exit code of a run that was told to stop and has saved itself: start it again to go on (EX_TEMPFAIL)."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class StopSignals:
    """Turns SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 into a flag while it is entered; a step in progress is finished."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def __enter__(self) -> StopSignals:
        self._previous = {number: signal.signal(number, self._remember) for number in _SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)


def any_rank(flags: list[bool], device: torch.device) -> list[bool]:
    """Each flag: whether any rank set it. A collective; all ranks get the same answer."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return flags
    values = torch.tensor(flags, dtype=torch.int32, device=device)
    dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return [bool(value) for value in values.tolist()]
