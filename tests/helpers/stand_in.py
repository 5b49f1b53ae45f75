"""Ranks that do nothing but live and die: for the watchers, which never look further."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from smoe_ds.errors import ConfigError, DataError
from smoe_ds.parallel.env import Env
from smoe_ds.watch.heartbeat import Heartbeat
from tests.helpers.environment import ROOT


def play(heartbeat: Heartbeat, act: str) -> None:
    """One thing that a rank does."""
    verb, _, value = act.partition(" ")
    if verb == "sleep":
        time.sleep(float(value))
    elif verb == "doing":
        heartbeat.doing(value)
    elif verb == "train":
        heartbeat.training = True
    elif verb == "raise":
        raise RuntimeError(value)
    elif verb == "refuse":
        raise ConfigError(value)
    elif verb == "agree":
        error = DataError(value)
        error.agreed = True
        raise error
    elif verb == "signal":
        os.kill(os.getpid(), signal.Signals[value])
    elif verb == "watcher":
        assert heartbeat._watcher is not None
        os.kill(heartbeat._watcher.pid, signal.Signals[value])
    else:
        raise ValueError(act)


def main(folder: str, rank: int, world_size: int, deadline: float, stall: float, acts: Sequence[str]) -> None:
    """A rank's life: acts one after another."""
    env = Env(rank, world_size, rank, world_size, "127.0.0.1", 12345, "environment")
    with Heartbeat() as heartbeat:
        heartbeat.start(Path(folder), env, deadline=deadline, stall=stall, resume="the command")
        print("started", flush=True)
        for act in acts:
            play(heartbeat, act)


@contextmanager
def stand_ins(
    folder: Path, lives: Sequence[Sequence[str]], *, deadline: float = 4.0, stall: float = 60.0
) -> Iterator[list[subprocess.Popen[str]]]:
    """Starts a rank for each list of acts; those that are left at the end are killed.

    Args:
        folder: the run folder; it exists.
        lives: the acts of each rank, see `play`.
        deadline: see `smoe_ds.watch.watch_task.Task`.
        stall: see there.
    """
    ranks = []
    try:
        for rank, acts in enumerate(lives):
            life = json.dumps([str(folder), rank, len(lives), deadline, stall, acts])
            command = [sys.executable, "-m", "tests.helpers.stand_in", life]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            ranks.append(subprocess.Popen(command, cwd=ROOT, text=True, **pipes))  # type: ignore[call-overload]
        yield ranks
    finally:
        for process in ranks:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
