"""Ranks that are left to themselves, as under a launcher that does nothing when one of them dies."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smoe_ds.parallel.ports import free_port
from tests.helpers.ranks import _ENVIRONMENT, _context, _rank_variables


@dataclass(frozen=True)
class Ending:
    """How one rank ended.

    Attributes:
        code: exit code; negative for a signal.
        after: when, on the clock of `time.monotonic`; None if it was still there at the end of the wait.
        output: what it wrote, and what its watcher wrote.
    """

    code: int | None
    after: float | None
    output: str


class OwnRanks:
    """``fn(rank, world_size, *args)`` in processes of which nobody takes care.

    Args:
        fn: a function at the top level of a module; what it returns is the exit code.
        world_size: number of processes.
        folder: where the output goes.
        args: further arguments.
    """

    def __init__(self, fn: Callable[..., int], world_size: int, folder: Path, *args: Any) -> None:
        context = _context()
        port = free_port()
        payload = pickle.dumps((fn, args))
        folder.mkdir(parents=True, exist_ok=True)
        self._outputs = [folder / f"output-{rank}" for rank in range(world_size)]
        self.processes = []
        for rank in range(world_size):
            variables = _ENVIRONMENT | _rank_variables(rank, world_size, port)
            process = context.Process(target=_work, args=(payload, rank, world_size, variables, self._outputs[rank]))
            process.start()
            self.processes.append(process)

    def output(self, rank: int) -> str:
        """What a rank has written so far."""
        path = self._outputs[rank]
        return path.read_text() if path.exists() else ""

    def wait(self, timeout: float, without: int | None = None) -> list[Ending]:
        """The end of each rank; one that is still there then is killed.

        Args:
            timeout: longest wait [s].
            without: a rank that is not waited for.
        """
        end = time.monotonic() + timeout
        ended: dict[int, float] = {}
        awaited = {rank for rank in range(len(self.processes)) if rank != without}
        while not awaited <= ended.keys() and time.monotonic() < end:
            for rank, process in enumerate(self.processes):
                if rank not in ended and process.exitcode is not None:
                    ended[rank] = time.monotonic()
            time.sleep(0.02)
        for process in self.processes:
            process.kill()
            process.join()
        return [
            Ending(process.exitcode if rank in ended else None, ended.get(rank), self.output(rank))
            for rank, process in enumerate(self.processes)
        ]


def processes_that_mention(text: str) -> list[int]:
    """Processes whose command line contains a text: watchers carry the run folder in theirs."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def await_none_that_mention(text: str, seconds: float = 10) -> None:
    """Waits until no such process is left; the last watcher goes a little after the last rank."""
    end = time.monotonic() + seconds
    while left := processes_that_mention(text):
        assert time.monotonic() < end, f"still there: {left}"
        time.sleep(0.05)


def die(way: str) -> None:
    """Ends, or stops, the process that calls it."""
    if way == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if way == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    if way == "out of memory":
        raise MemoryError("no memory for one more tensor")
    raise ValueError(f"made up: {way}")


def _work(payload: bytes, rank: int, world_size: int, variables: dict[str, str], output: Path) -> None:
    import torch

    os.environ.update(variables)
    torch.set_num_threads(1)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    fn, args = pickle.loads(payload)
    try:
        code = fn(rank, world_size, *args)
    except BaseException:
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
