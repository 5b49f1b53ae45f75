"""Runs a module-level function in N real processes that talk over gloo on this machine.

The processes are forked from one server that has imported torch, DeepSpeed and the trainer already, so a start costs
tenths of a second instead of the seconds those imports take in every process.
"""

from __future__ import annotations

import datetime
import faulthandler
import multiprocessing
import multiprocessing.connection
import os
import pickle
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from smoe_ds.parallel.ports import free_port

_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "TOKENIZERS_PARALLELISM": "false"}
_PRELOAD = ["tests.helpers.preloaded"]
_GRACE = 1.0  # seconds in which the other ranks may still tell what they saw after one failed


class RankError(AssertionError):
    """A rank raised, died or did not finish in time; the message holds the traceback of each failing rank."""


def run_ranks(
    fn: Callable[..., Any],
    world_size: int,
    *args: Any,
    timeout: float = 120,
    init: bool = True,
    env: dict[str, str] | None = None,
) -> list[Any]:
    """Calls ``fn(rank, world_size, *args)`` in `world_size` processes and returns their results in rank order.

    Args:
        fn: a function at the top level of a module.
        world_size: number of processes.
        *args: picklable arguments.
        timeout: deadline for all ranks together [s].
        init: whether torch.distributed is initialised (gloo, file store) before `fn`. The variables of torchrun
            (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT) are set in either case.
        env: further environment variables.

    Raises:
        RankError: a rank failed or the deadline passed; no process is left behind.
    """
    context = _context()
    scratch = Path(tempfile.mkdtemp(prefix="ranks-"))
    port = free_port()
    payload = pickle.dumps((fn, args))
    ranks: list[_Rank] = []
    try:
        for rank in range(world_size):
            variables = _rank_variables(rank, world_size, port) | (env or {})
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work,
                args=(payload, rank, world_size, variables, str(scratch), init, timeout, theirs),
                daemon=True,
            )
            process.start()
            theirs.close()
            ranks.append(_Rank(rank, process, ours))
        return _collect(ranks, time.monotonic() + timeout, timeout, scratch)
    finally:
        for member in ranks:
            member.stop()
        shutil.rmtree(scratch, ignore_errors=True)


class _Rank:
    """One process, the pipe to it and what came back."""

    def __init__(self, rank: int, process: Any, pipe: multiprocessing.connection.Connection) -> None:
        self.rank = rank
        self.process = process
        self.pipe = pipe
        self.result: Any = None
        self.failure: str | None = None
        self.done = False

    def receive(self) -> None:
        try:
            ok, value = pickle.loads(self.pipe.recv_bytes())
        except (EOFError, ConnectionResetError):
            self.process.join(5)
            ok, value = False, f"died without an exception, {_exit_words(self.process.exitcode)}"
        self.done = True
        if ok:
            self.result = value
        else:
            self.failure = value

    def stop(self) -> None:
        self.pipe.close()
        self.process.join(5 if self.done and self.failure is None else 0)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()


def _collect(ranks: Sequence[_Rank], deadline: float, timeout: float, scratch: Path) -> list[Any]:
    failures: list[str] = []
    while pending := [member for member in ranks if not member.done]:
        ready = multiprocessing.connection.wait([m.pipe for m in pending], max(0.0, deadline - time.monotonic()))
        if not ready:
            break
        for member in pending:
            if member.pipe in ready:
                member.receive()
                if member.failure is not None:
                    failures.append(f"rank {member.rank}: {member.failure}")
                    deadline = min(deadline, time.monotonic() + _GRACE)
    if failures:
        raise RankError("\n".join([f"{len(failures)} of {len(ranks)} ranks failed, the first one first", *failures]))
    if pending:
        stacks = "\n".join(f"rank {m.rank} stood at\n{_stack(scratch, m.rank)}" for m in pending)
        raise RankError(f"{len(pending)} of {len(ranks)} ranks had not finished after {timeout} s\n{stacks}")
    for member in ranks:
        member.pipe.send_bytes(b"leave")
    return [member.result for member in ranks]


def _stack(scratch: Path, rank: int) -> str:
    path = scratch / f"stack-{rank}"
    return path.read_text() if path.exists() else "(unknown)"


def _exit_words(code: int | None) -> str:
    return f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    saved = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        from multiprocessing import forkserver

        forkserver.ensure_running()
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
    return context


def _rank_variables(rank: int, world_size: int, port: int) -> dict[str, str]:
    variables = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    if Path("/sys/class/net/lo").exists():  # gloo would otherwise ask for the address of this machine's name
        variables["GLOO_SOCKET_IFNAME"] = "lo"
    return variables


def _work(
    payload: bytes,
    rank: int,
    world_size: int,
    variables: dict[str, str],
    scratch: str,
    init: bool,
    timeout: float,
    pipe: multiprocessing.connection.Connection,
) -> None:
    import torch
    import torch.distributed as dist

    os.environ.update(_ENVIRONMENT | variables)
    torch.set_num_threads(1)
    with (Path(scratch) / f"stack-{rank}").open("w") as stack_file:
        faulthandler.dump_traceback_later(max(0.1, timeout - 0.5), file=stack_file)
        try:
            if init:
                dist.init_process_group(
                    "gloo",
                    init_method=f"file://{scratch}/store",
                    rank=rank,
                    world_size=world_size,
                    timeout=datetime.timedelta(seconds=timeout),
                )
            fn, args = pickle.loads(payload)
            answer = pickle.dumps((True, fn(rank, world_size, *args)))
        except BaseException:  # also SystemExit: whatever ended this rank is what the test must show
            answer = pickle.dumps((False, traceback.format_exc()))
        faulthandler.cancel_dump_traceback_later()
    sys.stdout.flush()
    sys.stderr.flush()
    pipe.send_bytes(answer)
    pipe.poll(timeout)  # nobody leaves, and takes a store or a connection along, before all ranks are done
    os._exit(0)
