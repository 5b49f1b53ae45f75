"""When a run ends before its last step: a signal, a file named STOP, or the time it was given."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch  # takes seconds; signals have to be heard before

EXIT_PREEMPTED = 75
"""Exit code of a run that was told to stop and has saved itself: start it again to go on (EX_TEMPFAIL)."""

EXIT_INTERRUPTED = 130
"""Exit code of a run that a second SIGINT ended at once; the last committed checkpoint stays."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
_SAME_PRESS = 2.0  # seconds; torchrun repeats the SIGINT that the terminal has sent to all


class StopSignals:
    """Turns SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 into a flag while it is entered; a step in progress is finished.

    More signals change nothing while the run saves itself, but for a second SIGINT two seconds or more after the
    first: somebody does not want to wait, and the process exits at once. Nothing is lost that was committed.

    Args:
        last_words: called before such an exit.
    """

    def __init__(self, last_words: Callable[[], None] = lambda: None) -> None:
        self._last_words = last_words
        self.received: signal.Signals | None = None
        self._interrupted: float | None = None

    def __enter__(self) -> StopSignals:
        self._previous = {number: signal.signal(number, self._remember) for number in _SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        if number != signal.SIGINT:
            return
        now = time.monotonic()
        if self._interrupted is None:
            self._interrupted = now
        elif now - self._interrupted >= _SAME_PRESS:
            os.write(2, b"smoe-ds: interrupted twice; the last committed checkpoint stays\n")
            self._last_words()
            os._exit(EXIT_INTERRUPTED)


def any_rank(flags: list[bool], device: torch.device) -> list[bool]:
    """Each flag: whether any rank set it. A collective; all ranks get the same answer."""
    import torch
    import torch.distributed as dist

    if not dist.is_initialized() or dist.get_world_size() == 1:
        return flags
    values = torch.tensor(flags, dtype=torch.int32, device=device)
    dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return [bool(value) for value in values.tolist()]
