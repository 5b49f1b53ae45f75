"""How many threads a process computes with, and how they wait; decided before PyTorch is imported.

Left alone, OpenMP starts a thread for every core of the machine in every rank, and threads that wait for another one
spin. Where something else runs on one of the cores, all others then spin until that thread has had its turn. Here
ranks share the cores that they are allowed, unless the launcher has given each its own; and threads that wait give
their core back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping

from smoe_ds.parallel.cores import Cores, cores_here

NUMBER = "OMP_NUM_THREADS"
WAITING = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}
"""GNU's OpenMP and LLVM's read the first, Intel's the second as well."""
_CHOSEN = ("GOMP_SPINCOUNT", *WAITING)
"""If one of these is set, somebody has thought about it already."""


def choose_threads(ranks: int, environ: MutableMapping[str, str] = os.environ, cores: Cores | None = None) -> int:
    """Decides, and writes it into the environment for OpenMP; what is set there already stays.

    Args:
        ranks: processes of the job on this host.
        environ: environment variables.
        cores: what this process may use; None: what it finds.

    Returns:
        threads of this process.
    """
    number = threads_here(ranks, environ, cores or cores_here(environ))
    environ.setdefault(NUMBER, str(number))
    if not any(name in environ for name in _CHOSEN):
        environ.update(WAITING)
    return number


def threads_here(ranks: int, environ: Mapping[str, str], cores: Cores) -> int:
    """Threads of each rank: what the environment says, else its share of the cores, at least 1."""
    given = environ.get(NUMBER, "").split(",")[0].strip()  # a list is for nested regions
    if given.isdecimal() and int(given) > 0:
        return int(given)
    share = cores.share(ranks)
    asked = environ.get("SLURM_CPUS_PER_TASK", "")  # SLURM may be set up to count cores, but to bind nobody
    return min(share, int(asked)) if asked.isdecimal() and int(asked) > 0 else share
