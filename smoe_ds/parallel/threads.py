"""How many threads a process computes with, and how they wait; decided before PyTorch is imported.

Left alone, OpenMP starts a thread for every core of the machine in every rank, and threads that wait for another one
spin. Where something else runs on one of the cores, all others then spin until that thread has had its turn. Here
ranks share the cores that they are allowed, and threads that wait give their core back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from math import ceil
from pathlib import Path

NUMBER = "OMP_NUM_THREADS"
WAITING = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}
"""GNU's OpenMP and LLVM's read the first, Intel's the second as well."""
_CHOSEN = ("GOMP_SPINCOUNT", *WAITING)
"""If one of these is set, somebody has thought about it already."""


def choose_threads(
    ranks: int, environ: MutableMapping[str, str] = os.environ, cores: Callable[[], int] | None = None
) -> int:
    """Decides, and writes it into the environment for OpenMP; what is set there already stays.

    Args:
        ranks: processes of the job on this host.
        environ: environment variables.
        cores: says how many cores this process may use; None: `allowed_cores`.

    Returns:
        threads of this process.
    """
    number = threads_here(ranks, environ, (cores or allowed_cores)())
    environ.setdefault(NUMBER, str(number))
    if not any(name in environ for name in _CHOSEN):
        environ.update(WAITING)
    return number


def threads_here(ranks: int, environ: Mapping[str, str], cores: int) -> int:
    """Threads of each rank: what the environment says, else its share of the cores, at least 1."""
    given = environ.get(NUMBER, "").split(",")[0].strip()  # a list is for nested regions
    if given.isdecimal() and int(given) > 0:
        return int(given)
    own = environ.get("SLURM_CPUS_PER_TASK", "")  # SLURM has bound each task to its cores already
    return max(1, min(cores, int(own)) if own.isdecimal() and int(own) > 0 else cores // ranks)


def allowed_cores(root: Path = Path("/")) -> int:
    """Cores that this process may use: its affinity, or what a control group grants it, whichever is less."""
    granted = [ceil(quota) for quota in _quotas(root)]
    return max(1, min([len(os.sched_getaffinity(0)), *granted]))


def _quotas(root: Path) -> Iterator[float]:
    """Cores that control groups grant, this process's and those above it, in either version of the system."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base = root / "sys/fs/cgroup"
        elif "cpu" in controllers.split(","):
            base = root / "sys/fs/cgroup/cpu"
        else:
            continue
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            yield from _quota(folder)
            if folder == base:
                break


def _quota(folder: Path) -> Iterator[float]:
    """Version 2 writes ``max 100000`` or ``200000 100000`` in one file, version 1 two files, -1 for no limit."""
    words = _read(folder / "cpu.max").split() or [
        *_read(folder / "cpu.cfs_quota_us").split(),
        *_read(folder / "cpu.cfs_period_us").split(),
    ]
    if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]) > 0:
        yield int(words[0]) / int(words[1])


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
