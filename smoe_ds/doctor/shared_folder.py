"""Whether all hosts see the same run folder: each writes a token that rank 0 reads, and reads rank 0's."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smoe_ds.doctor.context import Context
from smoe_ds.doctor.finding import FAILED, OK, SKIPPED, Finding

_PATIENCE = 5.0  # seconds in which a network file system may show a new file to another host
_PAUSE = 0.1  # between two looks [s]


def check_shared_folder(context: Context) -> Iterator[Finding]:
    """Tokens both ways between rank 0 and every other rank; views may differ even on one host (containers).

    Every step is taken on every rank, whatever happened before.
    """
    if context.env.world_size == 1:
        yield Finding(SKIPPED, "skipped because one process trains", scope="run")
        return
    meeting, rank, folder = context.meeting, context.env.rank, context.output_dir
    mine, seconds = uuid.uuid4().hex, context.seconds / 4
    name = meeting.tell("token/name", f".doctor-{mine}", seconds)
    own = folder / f"{name}-{rank}"
    written = _write(own, mine)
    try:
        tokens = meeting.collect("token/written", [mine, written], seconds)
        token_of_0 = meeting.tell("token/first", mine, seconds)
        sees = _reads(folder / f"{name}-0", token_of_0) if rank else True
        seen = meeting.collect("token/seen", sees, seconds + _PATIENCE)
        if tokens is not None and seen is not None:
            yield from _verdict(context, folder, name, tokens, seen)
        meeting.tell("token/done", True, 2 * seconds + 2 * _PATIENCE)
    finally:
        with contextlib.suppress(OSError):  # never written, or on a disk that has become read-only
            own.unlink()


def _verdict(context: Context, folder: Path, name: str, tokens: list[Any], seen: list[Any]) -> Iterator[Finding]:
    """Rank 0's conclusion from what it reads and what the others say."""
    apart, unwritten = [], []
    until = time.monotonic() + _PATIENCE
    for rank, answer in enumerate(tokens):
        if answer is None or seen[rank] is None:
            continue  # did not answer: told elsewhere
        token, written = answer
        if not written:
            unwritten.append(rank)
        elif not (seen[rank] and _reads(folder / f"{name}-{rank}", token, until - time.monotonic())):
            apart.append(rank)
    hosts = context.meeting.hosts
    if unwritten:
        yield Finding(
            FAILED,
            f"{folder}: no token could be written by {_named(unwritten, hosts)}",
            "fix what the line of the run folder says about them",
            scope="run",
        )
    if apart:
        yield Finding(
            FAILED,
            f"{folder} is another folder for {_named(apart, hosts)} than for rank 0 on {hosts[0]}",
            "choose a smoe.train.output_dir on a file system that all hosts mount (in containers: bind it everywhere)",
            scope="run",
        )
    if not unwritten and not apart:
        yield Finding(OK, f"{folder}: every rank and rank 0 read what the other wrote", scope="run")


def _write(path: Path, token: str) -> bool:
    try:
        path.write_text(token, encoding="ascii")
    except OSError:
        return False
    return True


def _reads(path: Path, token: str, seconds: float = _PATIENCE) -> bool:
    """Whether a file comes to hold a token within some time."""
    until = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if path.read_text(encoding="ascii") == token:
                return True
        if time.monotonic() >= until:
            return False
        time.sleep(_PAUSE)


def _named(ranks: list[int], hosts: list[str]) -> str:
    by_host: dict[str, list[str]] = {}
    for rank in ranks:
        by_host.setdefault(hosts[rank], []).append(str(rank))
    return "; ".join(f"rank{'s' if len(r) > 1 else ''} {', '.join(r)} on {host}" for host, r in by_host.items())
