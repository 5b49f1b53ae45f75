"""The process beside each rank that sees it, or another rank, die, and then ends what is left of the run.

It needs nothing of the rank but its beats on a pipe: no collective, no interpreter lock, no torch. So it also works
where the rank is killed, stopped, or stuck in native code. Between ranks, watchers tell each other by files
(`beats`); rank 0's decides who failed first, and writes it down.

In time: with a deadline of D seconds a rank is given up after 0.6 D without a sign of life; the rest of D is for
telling the others and ending them.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smoe_ds.parallel.beats import BeatFile, Listener
from smoe_ds.parallel.failure import Failure, crash_text, first_failure, write_crash

_GIVE_UP = 0.6  # of the deadline
_READS_PER_SECOND = 100  # of rank 0's watcher, over all ranks


@dataclass(frozen=True)
class Task:
    """What a watcher is told by its rank, as JSON.

    Attributes:
        folder: the run folder.
        alive: folder of the beats of this start of the run.
        rank: the rank.
        world_size: number of ranks.
        speaks: whether to print where rank 0's watcher cannot (one rank a host).
        pid: the rank's process.
        host: its host.
        deadline: all processes are gone so long after the first failing rank's last sign of life [s].
        stall: longest that a rank may be at one thing [s].
        resume: command that goes on.
    """

    folder: str
    alive: str
    rank: int
    world_size: int
    speaks: bool
    pid: int
    host: str
    deadline: float
    stall: float
    resume: str

    @property
    def interval(self) -> float:
        """Time between two looks at everything [s]."""
        return min(self.deadline / 20, max(0.2, self.world_size / _READS_PER_SECOND))


class Watcher:
    """One rank's watcher.

    Args:
        task: what it was told.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._folder = Path(task.folder)
        self._beats = BeatFile(Path(task.alive) / f"rank-{task.rank}")
        ranks = range(1, task.world_size) if task.rank == 0 else [0]
        pause = 2 * task.interval
        self._peers = {rank: Listener(Path(task.alive) / f"rank-{rank}", pause) for rank in ranks if rank != task.rank}
        self._failures: dict[int, Failure] = {}
        self._verdict: Failure | None = None
        self._said: dict[str, Any] = {"doing": "starting", "seconds": 0.0}
        self._text = b""
        self._quiet = 0.0
        self._left = self._gone = False

    def run(self) -> None:
        """Watches until the rank leaves in order, or until after a failure every rank has been told."""
        looked = time.monotonic()
        while True:
            self._hear()
            now = time.monotonic()
            self._quiet += min(now - looked, 2 * self.task.interval)
            looked = now
            if self._left:
                break
            self._judge_own_rank()
            self._publish()
            for peer in self._peers.values():
                peer.look(now)
            self._judge_peers()
            if self._failures:
                self._end()
                break
        self._beats.remove()

    def _hear(self) -> None:
        """Takes what the rank says; returns at the next look or at the rank's end."""
        until = time.monotonic() + self.task.interval
        while not self._gone and (rest := until - time.monotonic()) > 0:
            ready, *_ = select.select([0], [], [], rest)
            if not ready:
                break
            data = os.read(0, 65536)
            if not data:  # its end of the pipe is closed: it is gone, or about to be
                self._gone = True
            *lines, self._text = (self._text + data).split(b"\n")
            for line in lines:
                self._take(json.loads(line))
            if self._left or self._failures:
                return
        self._gone = self._gone or os.getppid() != self.task.pid

    def _take(self, said: dict[str, Any]) -> None:
        self._quiet = 0.0
        self._left = self._left or bool(said.get("left"))
        if "failure" in said:
            self._failures.setdefault(self.task.rank, Failure(**said["failure"]))
        elif "doing" in said:
            self._said = said

    def _judge_own_rank(self) -> None:
        task = self.task
        if task.rank in self._failures:
            return
        if self._gone:
            self._fail(
                "vanished",
                "the process ended without a word: killed (SIGKILL, out of memory) or crashed in native code",
            )
        elif self._quiet >= _GIVE_UP * task.deadline:
            self._fail("silent", f"no sign of life for {self._quiet:.0f} s, process state {_state(task.pid)}")
        elif self._said["seconds"] >= task.stall:
            self._fail("stalled", f"no progress for {task.stall:.0f} s (smoe.train.stall_timeout)")

    def _fail(self, kind: str, message: str) -> None:
        task, said = self.task, self._said
        seconds = said["seconds"] + self._quiet
        stack = said.get("stack", "")
        failure = Failure(task.rank, task.host, task.pid, kind, said["doing"], seconds, message, stack)
        self._failures[task.rank] = failure

    def _publish(self) -> None:
        failure = self._failures.get(self.task.rank)
        content = {
            "doing": self._said["doing"],
            "seconds": self._said["seconds"],
            "failure": failure.as_json() if failure else None,
            "verdict": self._verdict.as_json() if self._verdict else None,
        }
        with contextlib.suppress(OSError):  # a full disk or a hanging file system: the next beat tries again
            self._beats.write(content)

    def _judge_peers(self) -> None:
        """What the other ranks' files say: their failures, their silence, rank 0's verdict."""
        for rank, peer in self._peers.items():
            beat = peer.heard
            if beat is None or peer.over:
                continue
            if beat.get("verdict") and self.task.rank:
                self._verdict = self._verdict or Failure(**beat["verdict"])
                self._failures.setdefault(self._verdict.rank, self._verdict)
            if rank in self._failures:
                continue
            if beat["failure"]:
                self._failures[rank] = Failure(**beat["failure"])
            elif peer.quiet >= _GIVE_UP * self.task.deadline:
                message = f"nothing heard of it for {peer.quiet:.0f} s: its host or its network is gone"
                doing, seconds = beat["doing"], beat["seconds"] + peer.quiet
                self._failures[rank] = Failure(rank, "unknown host", 0, "lost", doing, seconds, message)

    def _end(self) -> None:
        """Something has failed: learn what was first, end this rank, and let the others know."""
        task = self.task
        own = self._failures.get(task.rank)
        if own is not None and own.kind in ("silent", "stalled"):
            self._kill_rank()
        if task.rank:
            _let_go_of_streams(errors=not task.speaks)
            self._wait(0.75 * task.deadline, until=lambda: self._verdict is not None or not self._arbiter_listens())
        else:
            _let_go_of_streams(errors=False)
            self._settle()
        self._verdict = self._verdict or first_failure(self._failures)
        self._publish()
        # a rank that raised may still say so; the others stand in collectives that nobody will join
        grace = task.deadline / (4 if own is not None and own.kind in ("exception", "refused") else 16)
        self._wait(grace, until=lambda: self._gone or self._left)
        if task.world_size > 1:
            self._kill_rank()
        if self._verdict.kind != "refused" and (task.rank == 0 or not self._arbiter_listens()):
            self._tell(self._verdict)
        if task.rank == 0:
            self._wait(task.deadline / 8, until=self._all_over)

    def _settle(self) -> None:
        """Waits for what the other ranks say, longer where so far all have only seen another one go."""
        task = self.task
        all_failed = lambda: len(self._failures) == task.world_size  # noqa: E731
        self._wait(task.deadline / 10, until=all_failed)
        real = lambda: any(not failure.echo for failure in self._failures.values())  # noqa: E731
        self._wait(_GIVE_UP * task.deadline, until=lambda: all_failed() or real())

    def _arbiter_listens(self) -> bool:
        """Whether rank 0's watcher is there to decide."""
        if self.task.rank == 0:
            return True
        zero = self._peers[0]
        return not zero.over and zero.quiet < _GIVE_UP * self.task.deadline

    def _all_over(self) -> bool:
        """Whether nobody is left who would read rank 0's verdict."""
        return all(peer.over or peer.heard is None for peer in self._peers.values())

    def _wait(self, seconds: float, until: Callable[[], bool]) -> None:
        """Goes on telling and listening for a while."""
        end = time.monotonic() + seconds
        while not until() and time.monotonic() < end:
            self._hear()
            if self._gone:
                time.sleep(min(self.task.interval, 0.1))
            self._publish()
            for peer in self._peers.values():
                peer.look(time.monotonic())
            self._judge_peers()

    def _kill_rank(self) -> None:
        """Ends this watcher's rank, if it is still there."""
        while os.getppid() == self.task.pid and not self._left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.task.pid, signal.SIGKILL)
            time.sleep(0.02)

    def _tell(self, verdict: Failure) -> None:
        task = self.task
        others = {rank: str(peer.heard["doing"]) for rank, peer in self._peers.items() if peer.heard}
        others[task.rank] = str(self._said["doing"])
        others.pop(verdict.rank, None)
        with contextlib.suppress(OSError):
            write_crash(self._folder, verdict, task.world_size, others, task.resume)
        if task.rank == 0 or task.speaks:
            sys.stderr.write(crash_text(self._folder, verdict, task.world_size, task.resume))
            sys.stderr.flush()


def _state(pid: int) -> str:
    """State of a process as Linux tells it."""
    try:
        return Path(f"/proc/{pid}/status").read_text().partition("State:\t")[2].partition("\n")[0]
    except OSError:
        return "unknown"


def _let_go_of_streams(*, errors: bool) -> None:
    """Closes the standard output, and where asked the standard error: nobody is to wait for this process there."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    if errors:
        os.dup2(null, 2)


def main() -> None:
    """Watches the parent process as the JSON on the command line says."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are for the rank; the watcher ends with it
    task = Task(**json.loads(sys.argv[1]))
    Watcher(task).run()


def task_as_argument(task: Task) -> str:
    """The command-line argument from which `main` reads its task."""
    return json.dumps(asdict(task))


if __name__ == "__main__":
    main()
