"""A rank's signs of life: a thread tells the watcher beside it, a few times a deadline, what the main thread is at.

A sign of life is a beat of that thread, so a long validation, compilation or save keeps a rank alive: only a process
that is gone, stopped, or holds the interpreter lock all the time falls silent. `doing` marks progress; a rank that
beats but makes none for ``smoe.train.stall_timeout`` seconds counts as stalled.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from types import TracebackType

from smoe_ds.errors import DataError, SmoeError
from smoe_ds.parallel.env import Env
from smoe_ds.run_names import ALIVE
from smoe_ds.watch.failure import Failure, is_echo
from smoe_ds.watch.roll_call import roll_call
from smoe_ds.watch.watch_task import Task

_WAITING = ("torch/distributed/distributed_c10d.py", "torch/distributed/rendezvous.py", "smoe_ds/moe/exchange.py")
"""Files whose lines wait for other ranks, if a thread stands there for long."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Heartbeat:
    """Beats while it is entered; without `start` it only remembers what the rank is doing.

    Leaving it by an exception tells the watchers of all ranks, which end them; leaving it otherwise ends the watcher.
    So does an error that all ranks have agreed on before they train, or on the corpus: nobody is left behind, and the
    same command would meet it again.
    """

    def __init__(self) -> None:
        self.training = False
        self._doing, self._since = "starting", time.monotonic()
        self._task: Task | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._exit_code = 1

    def start(self, folder: Path, env: Env, *, deadline: float, stall: float, resume: str) -> None:
        """Starts the watcher and the thread.

        Args:
            folder: the run folder; it exists.
            env: this process; the meeting point is known.
            deadline: see `smoe_ds.watch.watch_task.Task`.
            stall: see there.
            resume: see there.

        Raises:
            OSError: the folder cannot be written.
        """
        self._task = Task(
            folder=str(folder.resolve()),
            alive=str(alive_folder(folder, env).resolve()),
            rank=env.rank,
            world_size=env.world_size,
            speaks=env.local_rank == 0,
            pid=os.getpid(),
            host=socket.gethostname(),
            address=None if env.local_world_size == env.world_size else env.master_addr,
            deadline=deadline,
            stall=stall,
            resume=resume,
        )
        Path(self._task.alive).mkdir(exist_ok=True)
        self._watcher = self._start_watcher(self._task)
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def doing(self, what: str) -> None:
        """Marks progress: from now on the main thread is at `what`."""
        self._doing, self._since = what, time.monotonic()

    def who_came(self) -> str:
        """Which ranks have not been started, or on which hosts all are; for the error of ranks that cannot meet."""
        task = self._task
        if task is None:
            return "it is not known which ranks came"
        return roll_call(Path(task.alive), task.rank, task.world_size, task.deadline)

    def __enter__(self) -> Heartbeat:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        agreed = isinstance(error, SmoeError) and error.agreed
        if error is None or (agreed and (not self.training or isinstance(error, DataError))):
            self.leave()
        elif isinstance(error, SmoeError) and not self.training:
            self.fail("refused", error)
        else:
            self.fail("exception", error)

    def leave(self) -> None:
        """This rank ends in order."""
        self._exit_code = 0
        self._over.set()
        self._leave_watcher()

    def _leave_watcher(self) -> None:
        """Waits until the watcher has written what it has to."""
        self._tell({"left": True})
        if self._watcher is not None and self._task is not None:
            try:
                self._watcher.wait(self._task.deadline)
            except subprocess.TimeoutExpired:  # somebody has stopped it
                self._watcher.kill()

    def fail(self, kind: str, error: BaseException) -> None:
        """This rank ends by an exception."""
        if self._task is not None:
            trace = "".join(traceback.format_exception(error))
            message = " ".join(f"{type(error).__name__}: {error}".split())
            task, seconds = self._task, time.monotonic() - self._since
            failure = Failure(
                task.rank, task.host, task.pid, kind, self._doing, seconds, message, trace, echo=is_echo(error)
            )
            self._tell({"failure": failure.as_json()})
            if task.world_size == 1:  # else its watcher is to end this rank, whatever it does
                atexit.register(self._leave_watcher)
        self._over.set()

    def _start_watcher(self, task: Task) -> subprocess.Popen[bytes]:
        """The watcher is a process of its own session: no signal to the rank's group, stops included, reaches it."""
        return subprocess.Popen(
            [sys.executable, "-m", "smoe_ds.watch.watcher", task.as_argument()],
            stdin=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            cwd="/",
            start_new_session=True,
        )

    def _tell(self, what: dict[str, object]) -> None:
        """One line to the watcher; one that was killed is replaced, since without it the rank would seem lost."""
        if self._task is None or self._watcher is None:
            return
        line = json.dumps(what).encode() + b"\n"
        with self._lock:
            try:
                self._write(line)
            except BrokenPipeError:
                self._watcher = self._start_watcher(self._task)
                with contextlib.suppress(BrokenPipeError):
                    self._write(line)

    def _write(self, line: bytes) -> None:
        assert self._watcher is not None and self._watcher.stdin is not None
        self._watcher.stdin.write(line)
        self._watcher.stdin.flush()

    def _beat(self) -> None:
        task = self._task
        assert task is not None
        pause = min(1.0, task.deadline / 20)
        while not self._over.wait(pause):
            seconds = time.monotonic() - self._since
            beat: dict[str, object] = {"doing": self._doing, "seconds": seconds}
            if seconds > task.stall / 2:
                beat["stack"], beat["waits"] = _main_thread_stack()
            self._tell(beat)
        self._see_to_the_end(task.deadline)

    def _see_to_the_end(self, deadline: float) -> None:
        """No thread and no exit handler keeps a process alive whose main thread has ended."""
        main = threading.main_thread()
        while main.is_alive():
            time.sleep(0.2)
        time.sleep(deadline)
        os._exit(self._exit_code)


def alive_folder(folder: Path, env: Env) -> Path:
    """Folder of the beats, the same for all ranks of one start of the run and no other start at the same time."""
    where = f"{env.master_addr}:{env.master_port}"
    if env.master_addr in _LOOPBACK:
        where = f"{socket.gethostname()}:{env.master_port}"
    return folder / f"{ALIVE}{hashlib.sha256(where.encode()).hexdigest()[:12]}"


def remove_old_beats(folder: Path, env: Env) -> None:
    """Removes what killed starts of the run left; the caller holds the run folder's lock."""
    own = alive_folder(folder, env)
    for old in folder.glob(f"{ALIVE}*"):
        if old != own:
            shutil.rmtree(old, ignore_errors=True)


def _main_thread_stack() -> tuple[str, bool]:
    """Where the main thread stands, and whether it waits there for other ranks."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    if frame is None:
        return "", False
    waits = frame.f_code.co_filename.endswith(_WAITING)
    return "".join(traceback.format_stack(frame)), waits
