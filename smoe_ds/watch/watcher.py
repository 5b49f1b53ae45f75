"""The process beside each rank that sees it, or another rank, die, and then ends what is left of the run.

It needs nothing of the rank but its beats on a pipe: no collective, no interpreter lock, no torch. So it also works
where the rank is killed, stopped, or stuck in native code. Between ranks, watchers tell each other by files
(`beats`), and by datagrams whether their hosts still reach each other (`reach`); rank 0's decides who failed first,
and writes it down.

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
from pathlib import Path
from typing import Any

from smoe_ds.file_lock import signature
from smoe_ds.watch.beats import BeatFile, beat_file
from smoe_ds.watch.crash_file import CrashFile, crash_text
from smoe_ds.watch.failure import Failure, first_failure
from smoe_ds.watch.peers import Peers
from smoe_ds.watch.roll_call import roll_call
from smoe_ds.watch.watch_task import MEETING, Task

_STALL_SLACK = 0.25  # of the deadline: a rank whose wait for others has the same limit is to say so itself


class Watcher:
    """One rank's watcher.

    Args:
        task: what it was told.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._folder = Path(task.folder)
        self._crash = CrashFile(self._folder)
        self._beats = BeatFile(beat_file(Path(task.alive), task.rank))
        self._peers = Peers(task, self._beats.token)
        self._failures: dict[int, Failure] = {}
        self._verdict: Failure | None = None
        self._cut_off: Failure | None = None
        self._said: dict[str, Any] = {"doing": "starting", "seconds": 0.0}
        self._text = b""
        self._quiet = 0.0
        self._left = self._gone = False
        self._ended = 0.0

    def run(self) -> None:
        """Watches until the rank leaves in order, or until after a failure every rank has been told."""
        looked = time.monotonic()
        while True:
            self._hear()
            now = time.monotonic()
            self._quiet += min(now - looked, 2 * self.task.interval)
            looked = now
            if self._left and self.task.rank not in self._failures:
                break
            self._judge_own_rank()
            self._publish()
            self._peers.look(now)
            self._judge_peers()
            if self._failures:
                self._end()
                break
        self._beats.remove()

    def _hear(self) -> None:
        """Takes what the rank says; returns at the next look or at the rank's end."""
        until = time.monotonic() + self.task.interval
        while not self._gone and (rest := until - time.monotonic()) > 0:
            waiting: list[Any] = [0, *self._peers.files()]
            ready, *_ = select.select(waiting, [], [], rest)
            self._peers.receive()
            if 0 not in ready:
                continue
            data = os.read(0, 65536)
            if not data:  # its end of the pipe is closed: it is gone, or about to be
                self._note_end()
            *lines, self._text = (self._text + data).split(b"\n")
            for line in lines:
                self._take(json.loads(line))
            if self._left or self._failures:
                return
        if os.getppid() != self.task.pid:
            self._note_end()

    def _note_end(self) -> None:
        if not self._gone:
            self._gone, self._ended = True, time.monotonic()

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
                "the process ended without an error message: killed (SIGKILL, out of memory) or crashed in native code",
            )
        elif self._quiet >= task.patience:
            self._fail("silent", f"no sign of life for {self._quiet:.0f} s, process state {_state(task.pid)}")
        else:
            self._judge_stall()

    def _judge_stall(self) -> None:
        task = self.task
        over = self._said["seconds"] >= task.stall + _STALL_SLACK * task.deadline
        if over and task.rank not in self._failures and not self._gone:
            message = f"no progress for {task.stall:.0f} s (smoe.train.stall_timeout)"
            if self._said["doing"] == MEETING:  # a connection to a host that is not there may outlast its timeout
                message += f"; {roll_call(Path(task.alive), task.rank, task.world_size, task.deadline)}"
            self._fail("stalled", message, echo=bool(self._said.get("waits")))

    def _fail(self, kind: str, message: str, *, echo: bool = False) -> None:
        task, said = self.task, self._said
        seconds = said["seconds"] + self._quiet
        stack = said.get("stack", "")
        ended = self._ended if self._gone else 0.0
        failure = Failure(task.rank, task.host, task.pid, kind, said["doing"], seconds, message, stack, echo, ended)
        self._failures[task.rank] = failure

    def _publish(self) -> None:
        failure = self._failures.get(self.task.rank) or self._cut_off
        content = {
            "pid": self.task.pid,
            "host": self.task.host,
            "port": self._peers.port,
            "places": self._peers.places(),
            "doing": self._said["doing"],
            "seconds": self._said["seconds"],
            "failure": failure.as_json() if failure else None,
            "verdict": self._verdict.as_json() if self._verdict else None,
        }
        with contextlib.suppress(OSError):  # a full disk or a hanging file system: the next beat tries again
            self._beats.write(content)

    def _judge_peers(self) -> None:
        """What is known of the other ranks: their failures, their silence, rank 0's verdict."""
        for rank, beat in self._peers.beats().items():
            if beat.get("verdict") and self.task.rank:
                self._verdict = self._verdict or Failure(**beat["verdict"])
                self._failures.setdefault(self._verdict.rank, self._verdict)
            if rank in self._failures:
                continue
            failure = Failure(**beat["failure"]) if beat["failure"] else self._peers.lost(rank)
            if failure is not None:
                self._failures[rank] = failure
        if not self._failures and (lost := self._peers.cut_off()) is not None:
            self._cut_off = self._failures[lost.rank] = lost

    def _end(self) -> None:
        """Something has failed: learn what was first, end this rank, and let the others know."""
        task = self.task
        marks = self._peers.marks()
        own = self._failures.get(task.rank)
        if own is not None and own.kind in ("silent", "stalled"):
            self._kill_rank()
        if task.rank:
            _let_go_of_streams(errors=not task.speaks)
            longest = task.deadline * (0.75 if self._arbiter_is_expected() else 0.15)
            self._wait(longest, until=lambda: self._verdict is not None or not self._arbiter_listens())
        else:
            _let_go_of_streams(errors=False)
            self._settle()
        told = self._verdict is not None
        self._verdict = self._verdict or first_failure(
            self._failures, [one for one in self._peers.silent(marks) if one.rank not in self._failures]
        )
        decided_here = task.rank == 0 or not told
        if decided_here and self._verdict.kind != "refused":
            self._write(self._verdict)  # first: SLURM ends this process with the last rank, which dies once others hear
        self._publish()
        # a rank that raised may still say so; the others stand in collectives that nobody will join
        grace = task.deadline / (4 if own is not None and own.kind in ("exception", "refused") else 16)
        self._wait(grace, until=lambda: self._gone or self._left)
        if task.world_size > 1:
            self._kill_rank()
        if self._verdict.kind != "refused":
            self._tell(self._verdict, decided_here=decided_here)
        if task.rank == 0:
            self._wait(task.deadline / 8, until=self._peers.all_over)

    def _settle(self) -> None:
        """Waits for what the other ranks say, longer where so far all have only seen another one go."""
        task = self.task
        all_failed = lambda: len(self._failures) == task.world_size  # noqa: E731
        lost = lambda: any(failure.kind == "lost" for failure in self._failures.values())  # noqa: E731
        self._wait(task.deadline / 10, until=lambda: all_failed() or lost())
        real = lambda: any(not failure.echo for failure in self._failures.values())  # noqa: E731
        self._wait(task.patience, until=lambda: all_failed() or real())

    def _arbiter_listens(self) -> bool:
        """Whether rank 0's watcher is there to decide."""
        return self.task.rank == 0 or self._peers.listens(0)

    def _arbiter_is_expected(self) -> bool:
        """Whether rank 0's watcher was heard and is not lost: its word is worth waiting for."""
        failure = self._failures.get(0)
        return self._peers.heard(0) and not (failure is not None and failure.kind == "lost")

    def _wait(self, seconds: float, until: Callable[[], bool]) -> None:
        """Goes on telling and listening for a while."""
        end = time.monotonic() + seconds
        while not until() and time.monotonic() < end:
            self._hear()
            if self._gone:
                time.sleep(min(self.task.interval, 0.1))
            self._judge_stall()
            self._publish()
            self._peers.look(time.monotonic())
            self._judge_peers()

    def _kill_rank(self) -> None:
        """Ends this watcher's rank, if it is still there."""
        while os.getppid() == self.task.pid and not self._left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.task.pid, signal.SIGKILL)
            time.sleep(0.02)

    def _write(self, verdict: Failure) -> None:
        """Writes ``crash.json`` where no other watcher does."""
        task = self.task
        beats = self._peers.beats(all_heard=True)
        others = {rank: str(beat["doing"]) for rank, beat in beats.items()} | {task.rank: str(self._said["doing"])}
        others.pop(verdict.rank, None)
        zero = beats.get(0, {"pid": task.pid, "host": task.host} if task.rank == 0 else None)
        signed = signature(int(zero["pid"]), str(zero["host"])) if zero else None
        with contextlib.suppress(OSError):
            self._crash.write(verdict, world_size=task.world_size, others=others, resume=task.resume, signed=signed)

    def _tell(self, verdict: Failure, *, decided_here: bool) -> None:
        """Writes the log's last lines.

        Rank 0's says them for all; of a lost host also one watcher on every other host, and on that one, if it runs.
        """
        task = self.task
        if task.rank == 0 or (task.speaks and (decided_here or verdict.kind == "lost")):
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
    task = Task.from_argument(sys.argv[1])
    Watcher(task).run()


if __name__ == "__main__":
    main()
