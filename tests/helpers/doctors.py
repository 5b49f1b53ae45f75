"""One check of the doctor on real ranks, or alone, as rank 0 would print it."""

from __future__ import annotations

import ctypes
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from smoe_ds.config import load_run
from smoe_ds.doctor.context import Context
from smoe_ds.doctor.examine import Check, examine
from smoe_ds.doctor.finding import Finding
from smoe_ds.doctor.meeting import Meeting
from smoe_ds.doctor.merge import Line
from smoe_ds.doctor.run_folder import folder_made
from smoe_ds.parallel.launchers import discover

_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS of Linux
_PRIVATE = 1 << 18 | 1 << 14  # MS_PRIVATE | MS_REC


def alone(run_file: Path, look: Callable[[Context], Iterable[Finding]], **options: Any) -> list[Line]:
    """The lines of a check in this process, as the only rank."""
    env = discover({})
    context = Context(load_run(run_file), env, Meeting(env, "here", 5), **({"seconds": 20.0} | options))
    return list(examine(context, [Check("check", look)]))


def on_rank(
    rank: int,
    world_size: int,
    run_file: str,
    looks: list[Callable[[Context], Iterable[Finding]]],
    options: Mapping[str, Any],
    prepare: Callable[[int], None] | None = None,
    hosts: tuple[str, ...] | None = None,
) -> list[Line]:
    """The same as one of several ranks; for run_ranks(..., init=False).

    Args:
        rank: of this process.
        world_size: number of ranks.
        run_file: the run.
        looks: checks, one after the other.
        options: of the context; ``skew`` is what this rank's clock is ahead per rank [s].
        prepare: called with the rank first.
        hosts: names the ranks' hosts are to have.
    """
    if prepare is not None:
        prepare(rank)
    env = discover()
    given = {"seconds": 20.0} | dict(options)
    skew = float(given.pop("skew", 0.0)) * rank
    meeting = Meeting(env, hosts[rank] if hosts else "here", 60.0)
    context = Context(load_run(run_file), env, meeting, clock=lambda: time.time() + skew, **given)
    with folder_made(context.output_dir):
        lines = list(examine(context, [Check(f"check {number}", look) for number, look in enumerate(looks)]))
        meeting.tell("verdict", True)
    meeting.absent.clear()  # the process of one that fell silent reads the verdict too, before rank 0 is gone
    meeting.leave()
    return lines


def own_mounts() -> None:
    """What this process mounts from now on, others do not see; it is gone when the process is."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "unshare")
    if libc.mount(b"none", b"/", None, _PRIVATE, None):
        raise OSError(ctypes.get_errno(), "making mounts private")


def mount_over(folder: Path) -> None:
    """Puts an empty file system over a folder, for this process alone."""
    own_mounts()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
