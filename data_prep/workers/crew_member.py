"""Joins those who prepare the same output: leads them, or does what the leader hands out."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from data_prep.own_folders import check_own
from data_prep.workers.crew import PLACES, Crew, Meeting, crew_folder, leading
from data_prep.workers.pool import DEADLINE, Workers, end_with_parent
from smoe_ds import file_lock
from smoe_ds.errors import DataError, LaunchError

_LOST = 3  # exit code of a worker whose leader has gone
_PAUSE = 0.5  # seconds between two attempts, and between two looks whether the leader is there
_REACH_DEADLINE = 600.0  # seconds in which a leader must have been reached, file systems that tell late included
_CONNECT_SECONDS = 5.0


def share(
    output: Path, work: str, number: int, lead: Callable[[Workers], int], say: Callable[[str], None]
) -> tuple[int, bool]:
    """Takes part until the work is done.

    Args:
        output: the folder that is prepared.
        work: fingerprint of what it is prepared from.
        number: processes that work here.
        lead: does the whole work with the workers it is given, and returns the exit status.
        say: where to tell what this process does.

    Returns:
        the exit status, and whether this process led.

    Raises:
        DataError: others prepare something else there, or the folder in which they meet is somebody else's.
        LaunchError: the leader cannot be reached.
    """
    folder = crew_folder(output)
    check_own(folder, PLACES, output)
    until = time.monotonic() + _REACH_DEADLINE
    while True:
        try:
            with file_lock.locked(folder / "lock", lambda: _no_locks(output)), leading(folder, work) as crew:
                return _lead(crew, number, lead), True
        except file_lock.HeldError as error:
            holder = error.holder
        meeting = Meeting.read(folder / "meeting")
        if meeting is not None and _reachable(meeting) is not None:
            if meeting.work != work:
                raise DataError(f"{output}: {holder} prepares it from another specification; choose another output")
            say(f"helping {holder} with {number} processes")
            status = _help(meeting, number)
            if status != _LOST:
                return status, False
            until = time.monotonic() + _REACH_DEADLINE
        elif time.monotonic() > until:
            raise LaunchError(
                f"{output}: {holder} leads, but cannot be reached with what {folder / 'meeting'} says "
                f"({f'{meeting.hosts}, port {meeting.port}' if meeting else 'nothing'}); all hosts must see this "
                "folder, with no firewall between them"
            )
        time.sleep(_PAUSE)


def _no_locks(output: Path) -> None:
    raise LaunchError(f"{output}: this file system has no locks, so nobody can tell who leads; start one process only")


def _lead(crew: Crew, number: int, lead: Callable[[Workers], int]) -> int:
    status = None
    workers = Workers(crew, number, DEADLINE)

    def joined(in_all: int) -> None:
        workers.number = max(number, in_all)

    crew.joined = joined
    with _workers(crew.meeting, number):
        try:
            code = lead(workers)
            status = code if code in (0, 2) else None  # after a signal another one goes on
            return code
        finally:
            crew.end(status)


def _help(meeting: Meeting, number: int) -> int:
    """Works until the leader says that all is done, or is gone; its exit status."""
    with _workers(meeting, number) as workers:
        for worker in workers:
            worker.join()
        codes = [worker.exitcode for worker in workers]
    return next((code for code in codes if code in (0, 2)), _LOST)


@contextmanager
def _workers(meeting: Meeting, number: int) -> Iterator[list[BaseProcess]]:
    """Processes that work for a leader; they end with this one."""
    context = multiprocessing.get_context("spawn")
    workers: list[BaseProcess] = [context.Process(target=_work, args=(meeting,)) for _ in range(number)]
    for worker in workers:
        worker.start()
    try:
        yield workers
    except BaseException:
        for worker in workers:
            worker.terminate()
        raise
    finally:
        for worker in workers:
            worker.join(_CONNECT_SECONDS)
            worker.kill()
            worker.join()


def _reachable(meeting: Meeting) -> str | None:
    """The first of the leader's names at which somebody listens."""
    for host in meeting.hosts:
        try:
            with socket.create_connection((host, meeting.port), timeout=_CONNECT_SECONDS):
                return host
        except OSError:
            continue
    return None


def _work(meeting: Meeting) -> None:
    """A worker process: calls what the leader sends, one after the other."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent()
    host = _reachable(meeting)
    if host is None:
        sys.exit(_LOST)
    try:
        connection: Connection = Client((host, meeting.port), authkey=bytes.fromhex(meeting.key))
        sys.exit(_Worker(connection).run())
    except (OSError, EOFError, AuthenticationError):
        sys.exit(_LOST)


class _Worker:
    """Answers one leader. While it is at something it looks whether the leader is still there."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._busy = False
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    def run(self) -> int:
        """Works until the leader says with which status to end."""
        while True:
            message: Any = self._connection.recv()
            if isinstance(message, int):
                return message
            function, arguments = message
            self._set_busy(True)
            try:
                answer = ("result", function(*arguments))
            except Exception as error:
                answer = ("error", error)
            self._set_busy(False)
            self._connection.send(answer)

    def _set_busy(self, busy: bool) -> None:
        with self._lock:
            self._busy = busy

    def _watch(self) -> None:
        """Nobody waits for what is made for a leader that has gone, and another one may be at it."""
        while True:
            time.sleep(_PAUSE)
            with self._lock:
                if self._busy and self._connection.poll(0):
                    os._exit(self._last_word())

    def _last_word(self) -> int:
        """What a leader that expects an answer may still send: the status to end with; nothing if it is gone."""
        try:
            return int(self._connection.recv())
        except (OSError, EOFError):
            return _LOST
