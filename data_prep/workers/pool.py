"""Processes that share the work: this one alone, several on this host, or the ranks of an MPI job."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smoe_ds.errors import DataError, LaunchError
from smoe_ds.launch_variables import is_slurm_step
from smoe_ds.text_line import first_line

_POLL = 0.2  # seconds
DEADLINE = 1800.0  # seconds in which some rank must have finished something; a piece takes seconds, a text minutes


class NoAnswerError(DataError):
    """Other processes have not finished anything for too long."""


class Workers:
    """Calls functions in other processes; results come as they are finished.

    Attributes:
        number: processes that work.
    """

    def __init__(self, executor: Any, number: int, deadline: float = math.inf) -> None:
        """Takes an executor of so many processes, which have finished something within a deadline [s]."""
        self.number = number
        self._deadline = deadline
        self._executor = executor
        self._tasks: dict[Future[Any], Any] = {}

    def submit(self, key: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """Has a function called; `results` yields the key with what it returns."""
        with _named(key):
            self._tasks[self._executor.submit(function, *arguments)] = key

    @property
    def pending(self) -> int:
        """Calls that have not come back."""
        return len(self._tasks)

    def results(self, between: Callable[[], None] = lambda: None) -> Iterator[tuple[Any, Any]]:
        """Yields key and result of all calls, also of those submitted meanwhile.

        Args:
            between: called a few times a second.

        Raises:
            DataError: a worker process died, or none answers.
        """
        between()
        last = time.monotonic()
        while self._tasks:
            done, _ = wait(self._tasks, timeout=_POLL, return_when=FIRST_COMPLETED)
            if done:
                last = time.monotonic()
            elif time.monotonic() - last > self._deadline:
                raise NoAnswerError(
                    f"no process has finished anything for {self._deadline:.0f} s; {len(self._tasks)} pieces are in "
                    f"work, the oldest: {_in_words(next(iter(self._tasks.values())))}; is one of them dead?"
                )
            for future in done:
                key = self._tasks.pop(future)
                with _named(key):
                    result = future.result()
                yield key, result
            between()


@contextmanager
def _named(key: Any) -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise DataError(
            f"a worker process died (killed, perhaps because memory ran out), probably during: {_in_words(key)}; "
            "finished pieces are kept; run the same command again, with fewer --workers if memory is short"
        ) from error


def _in_words(key: Any) -> str:
    return " ".join(map(str, key)) if isinstance(key, tuple) else str(key)


class _Here(Executor):
    """Calls functions in this process, at once."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@contextmanager
def here(number: int) -> Iterator[Workers]:
    """Workers on this host: with one this process itself, else as many others, which end when this one does."""
    if number == 1:
        yield Workers(_Here(), 1)
        return
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("fork" if _is_single_threaded() else "spawn")
    with ProcessPoolExecutor(number, mp_context=context, initializer=end_with_parent) as pool:
        try:
            yield Workers(pool, number)
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()  # a piece is finished or not there
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _is_single_threaded() -> bool:
    """Whether this process can be copied as it is, which spares starting Python, and half a second, for each worker.

    Other threads, those of a BLAS library too, would be missing in the copy, and what they had locked would stay so.
    """
    threads = Path("/proc/self/task")  # on Linux
    return threads.is_dir() and len(list(threads.iterdir())) == 1


def end_with_parent() -> None:
    """Lets this process end when its parent does, even if that is killed; it would wait for work for ever.

    Ctrl-C reaches all processes of a terminal; the parent decides what it means.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whatever the parent does at it
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def processes_started(environ: Mapping[str, str] = os.environ) -> tuple[int, str]:
    """How many processes a launcher started with this command, and what says so.

    Args:
        environ: environment variables.

    Returns:
        number (1: no launcher), and the variable with its value.
    """
    names = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "WORLD_SIZE"]
    if is_slurm_step(environ):
        names += ["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"]
    name = next((name for name in names if environ.get(name, "1") != "1"), "")
    return (int(environ[name]), f"{name}={environ[name]}") if name else (1, "")


@contextmanager
def ranks(number: int, evidence: str) -> Iterator[Workers | None]:
    """The ranks of an MPI job as workers.

    Args:
        number: processes that were started.
        evidence: the variable that says so.

    Yields:
        workers on rank 0, which are the other ranks; None on those, when all is done.

    Raises:
        LaunchError: the processes cannot talk to each other, and each would do the whole work.
    """
    world = _world(number, evidence)
    from mpi4py.futures import MPICommExecutor

    executor: Any
    with MPICommExecutor(world, root=0) as executor:
        if executor is None:
            yield None
            return
        try:
            yield Workers(executor, number - 1, DEADLINE)
        except NoAnswerError as error:  # the others would be waited for
            print(f"error: {error}", file=sys.stderr, flush=True)
            world.Abort(2)
        except BaseException:
            executor.shutdown(wait=True, cancel_futures=True)
            raise


def _world(number: int, evidence: str) -> Any:
    remedy = (
        "start with the mpirun of mpi4py's MPI, or with srun --mpi=pmi2 or --mpi=pmix, whichever that MPI takes; or "
        "start one process, which uses all processors of its host"
    )
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py is there, but no MPI library
        reason = first_line(str(error))
        raise LaunchError(f"{evidence}: {number} processes, but mpi4py cannot be used ({reason}); {remedy}") from error
    if MPI.COMM_WORLD.Get_size() != number:
        raise LaunchError(
            f"{evidence}: {number} processes, but mpi4py ({first_line(MPI.Get_library_version())}) sees "
            f"{MPI.COMM_WORLD.Get_size()}: each would do the whole work; {remedy}"
        )
    return MPI.COMM_WORLD
