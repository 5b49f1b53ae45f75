"""Processes that share the work because they were started for the same output: the first one leads, the others help.

They need a folder in common and a network, but no MPI, and may come and go: the tasks of a SLURM array job. Whoever
holds a lock beside the output leads: it plans, and hands out tasks over TCP. When it ends before the work is done,
another one takes the lock and goes on with the pieces that are finished. Who wants to help must know a key that lies
beside the lock and that only its owner can read.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

from data_prep.own_folders import remove_own
from smoe_ds.errors import DataError

PLACES = ("meeting*",)
"""Files in the folder of a crew, besides the lock."""

_MOST_DEATHS = 3  # of workers, at the same task
_BACKLOG = 1024  # workers that may knock at the same moment
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}  # a host that vanished is noticed after 90 s


@dataclass(frozen=True)
class Meeting:
    """Where the leader listens.

    Attributes:
        hosts: names and addresses of its host, to be tried in turn.
        port: TCP port.
        key: hexadecimal; proves that somebody may read the folder.
        process: number of the leader on its host.
        work: fingerprint of what is prepared.
    """

    hosts: list[str]
    port: int
    key: str
    process: int
    work: str

    def write(self, path: Path) -> None:
        """Writes it where helpers look; only this user can read it."""
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        draft.touch(0o600)
        draft.write_text(json.dumps(asdict(self)), encoding="utf-8")
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> Meeting | None:
        """What was written last; None if there is nothing."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def crew_folder(output: Path) -> Path:
    """The folder beside an output with the lock and the meeting point of those who prepare it."""
    return output.with_name(f"{output.name}.crew")


@dataclass
class _Task:
    """A call that somebody is to make.

    Attributes:
        call: function and arguments.
        future: gets the result.
        deaths: workers that went while they were at it.
    """

    call: tuple[Callable[..., Any], tuple[Any, ...]]
    future: Future[Any]
    deaths: int = 0


class Crew(Executor):
    """The leader's side: has functions called by whoever has come to help.

    Attributes:
        meeting: where it listens.
        joined: called with the number of workers when one has come.
    """

    def __init__(self, work: str) -> None:
        """Listens on a free port, for helpers at the same work."""
        self._key = secrets.token_bytes(32)
        self._listener = Listener(("", 0), "AF_INET", backlog=_BACKLOG)
        self.meeting = Meeting(_names(), self._listener.address[1], self._key.hex(), os.getpid(), work)
        self.joined: Callable[[int], None] = lambda number: None
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._workers: set[Connection] = set()
        self._ended = False
        threading.Thread(target=self._welcome, daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._tasks.put(_Task((fn, args), future))
        return future

    def end(self, status: int | None) -> None:
        """Sends all helpers home; a second call does nothing.

        Args:
            status: the exit status that all are to end with; None: the work is not done, and one of them goes on.
        """
        with self._lock:
            if self._ended:
                return
            self._ended = True
            workers = list(self._workers)
        self._listener.close()
        for worker in workers:
            self._tasks.put(None)
            with suppress(OSError):
                if status is not None:
                    worker.send(status)
                with _socket(worker) as view:
                    view.shutdown(socket.SHUT_RDWR)

    def _welcome(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:
                if self._ended:
                    return
                continue  # who knocked has gone already
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        """Gives one worker a task at a time, until it is gone."""
        try:
            deliver_challenge(connection, self._key)
            answer_challenge(connection, self._key)
            _keep_alive(connection)
        except (AuthenticationError, EOFError, OSError):
            connection.close()  # a stranger
            return
        with self._lock:
            if self._ended:
                connection.close()
                return
            self._workers.add(connection)
            self.joined(len(self._workers))
        while (task := self._tasks.get()) is not None and not self._ended:
            try:
                connection.send(task.call)
                kind, value = connection.recv()
            except (OSError, EOFError):
                self._lost(task)
                break
            if kind == "result":
                task.future.set_result(value)
            else:
                task.future.set_exception(value)
        with self._lock:
            self._workers.discard(connection)
        connection.close()

    def _lost(self, task: _Task) -> None:
        """Somebody else makes the call; a piece is finished or not there."""
        task.deaths += 1
        if task.deaths < _MOST_DEATHS:
            self._tasks.put(task)
            return
        task.future.set_exception(
            DataError(
                f"{task.deaths} workers died while they worked on the same piece (killed, perhaps because memory ran "
                "out); finished pieces are kept; run the same command again, with fewer --workers if memory is short"
            )
        )


@contextmanager
def leading(folder: Path, work: str) -> Iterator[Crew]:
    """A crew whose meeting point can be read in a folder; the folder goes with it. The caller holds the lock in it."""
    crew = Crew(work)
    try:
        crew.meeting.write(folder / "meeting")
        yield crew
    finally:
        crew.end(None)  # if nobody has said so already
        remove_own(folder, PLACES)


def _names() -> list[str]:
    """This host's name, and the addresses that it has as far as it knows."""
    name = socket.gethostname()
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)]
    except OSError:
        found = []
    return list(dict.fromkeys([name, *found]))


def _socket(connection: Connection) -> socket.socket:
    """The socket of a connection, to be closed for itself."""
    return socket.socket(fileno=os.dup(connection.fileno()))


def _keep_alive(connection: Connection) -> None:
    with _socket(connection) as view:
        view.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                view.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
