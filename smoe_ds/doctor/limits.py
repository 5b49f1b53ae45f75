"""Limits that the system sets to one process: open files, processes, shared and locked memory."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from smoe_ds.doctor.context import Context
from smoe_ds.doctor.finding import FAILED, NOTE, OK, SKIPPED, Finding

_OWN_FILES = 128  # libraries, logs, pipes
_FILES_PER_PEER = 8  # connections to another rank, over a few groups
_THREADS_PER_RANK = 256  # PyTorch's, NCCL's, the data thread's and the compiler's
_SHM = Path("/dev/shm")
_SHM_WANTED = 1 << 30
"""NCCL's documentation starts containers with --shm-size=1g."""


def check_limits(context: Context) -> Iterator[Finding]:
    """Of this rank's process; shared memory once a host."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield files_finding(files, files_needed(context.env.world_size, _shard_files(context)))
    processes, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    yield processes_finding(processes, context.env.local_world_size)
    if context.meeting.first_on_host:
        yield _shared_memory(context)
        if _locks_memory(context):
            yield locked_finding(resource.getrlimit(resource.RLIMIT_MEMLOCK)[0])


def files_needed(world_size: int, shard_files: int) -> int:
    """Open files of one rank, roughly."""
    return _OWN_FILES + _FILES_PER_PEER * world_size + shard_files


def files_finding(limit: int, need: int) -> Finding:
    """``ulimit -n`` against what a rank opens."""
    return _limit_finding("-n", limit, need, "open files", least=65536)


def processes_finding(limit: int, ranks: int) -> Finding:
    """``ulimit -u``, which counts threads of all processes of the user on the host."""
    return _limit_finding("-u", limit, ranks * _THREADS_PER_RANK, "threads on this host", least=4096)


def _limit_finding(option: str, limit: int, need: int, what: str, least: int) -> Finding:
    """A limit of the shell against what is needed; a remedy asks for no less than ``least``."""
    figures = {"need": need, "limit": limit}
    if limit != resource.RLIM_INFINITY and limit < need:
        return Finding(
            FAILED,
            f"needs about {{need:count}} {what}, the limit is {{limit:count}}",
            f"ulimit {option} {max(least, need)} in the job's script (hard limit: /etc/security/limits.conf)",
            figures,
        )
    shown = "no limit" if limit == resource.RLIM_INFINITY else "the limit is {limit:count}"
    return Finding(OK, f"needs about {{need:count}} {what}, {shown}", figures=figures)


def shared_memory_finding(size: float, free: float) -> Finding:
    """/dev/shm, through which NCCL moves data between GPUs of a host."""
    figures = {"size": size, "free": free, "wanted": _SHM_WANTED}
    if free < _SHM_WANTED:
        return Finding(
            NOTE,
            f"{_SHM}: {{free:bytes}} of {{size:bytes}} free; NCCL may need up to {{wanted:bytes}}",
            "start the container with --shm-size=1g, or remove what fills it",
            figures,
            scope="host",
        )
    return Finding(OK, f"{_SHM}: {{free:bytes}} of {{size:bytes}} free", figures=figures, scope="host")


def locked_finding(limit: int) -> Finding:
    """``ulimit -l`` for page-locked memory."""
    if limit == resource.RLIM_INFINITY:
        return Finding(OK, "memory may be locked without limit", scope="host")
    return Finding(
        NOTE,
        "the run pins host memory (pin_memory), of which {limit:bytes} may be locked",
        "ulimit -l unlimited (Docker: --ulimit memlock=-1), or offload_optimizer.pin_memory false",
        {"limit": limit},
        scope="host",
    )


def _shared_memory(context: Context) -> Finding:
    if context.device.type == "cpu" or context.env.local_world_size == 1:
        return Finding(SKIPPED, f"{_SHM}: skipped because no two GPUs of this host talk", scope="host")
    stat = os.statvfs(_SHM)
    return shared_memory_finding(stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize)


def _locks_memory(context: Context) -> bool:
    offload = context.run.deepspeed["zero_optimization"].get("offload_optimizer") or {}
    pinned = offload.get("device", "none") != "none" and bool(offload.get("pin_memory"))
    return pinned and context.device.type == "cuda"


def _shard_files(context: Context) -> int:
    """Files of the corpus that a rank maps; 0 where there is none, which its own check says."""
    from smoe_ds.data.manifest import read_manifest, shard_files
    from smoe_ds.errors import DataError

    try:
        return sum(1 for name, _ in shard_files(read_manifest(Path(context.run.smoe.data.path))) if "/" in name)
    except (DataError, KeyError, TypeError):
        return 0
