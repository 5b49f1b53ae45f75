"""Which processor cores this process may use, and which the launcher of all ranks on this host may use.

A launcher that binds ranks (``mpirun --bind-to``, ``srun``) gives each its own part of the cores. A rank sees that by
comparing its affinity with that of its launcher: where they are equal, the ranks share what they are allowed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, inf
from pathlib import Path

from smoe_ds.launch_variables import LOCAL_RANK_VARIABLES
from smoe_ds.parallel.control_groups import control_groups


@dataclass(frozen=True)
class Cores:
    """What this process may use.

    Attributes:
        own: cores in its affinity.
        host: cores for all ranks of the job on this host together; equal to `own` where nobody has bound them.
        granted: cores that control groups grant all of them together; infinite without a limit.
    """

    own: int
    host: int
    granted: float = inf

    @property
    def allowed(self) -> int:
        """Cores that this process may use: its affinity, or what a control group grants, whichever is less."""
        return max(1, min(self.own, self._granted))

    @property
    def together(self) -> int:
        """Cores that all ranks on this host may use."""
        return max(1, min(self.host, self._granted))

    @property
    def _granted(self) -> int:
        return self.host if self.granted == inf else ceil(self.granted)

    def share(self, ranks: int) -> int:
        """Cores of one of the ranks on this host, at least 1.

        Ranks that are bound keep their cores. Of ranks that are bound to the same ones, such as those of a socket,
        so many share them as have no cores of their own elsewhere.
        """
        sharing = ceil(ranks * self.own / self.host)
        return max(1, min(self.own // sharing, self.together // ranks))


def cores_here(environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> Cores:
    """Of this process.

    Args:
        environ: environment variables.
        root: folder with ``proc`` and ``sys``.
    """
    own = len(os.sched_getaffinity(0))
    host = _cores_of_launcher(environ, root) or own
    return Cores(
        min(own, host),
        host,
        min((quota for group in control_groups("cpu", root) for quota in _quota(group)), default=inf),
    )


def _cores_of_launcher(environ: Mapping[str, str], root: Path) -> int | None:
    """Cores of the nearest process above that is no part of this rank: it does not have the rank's variable."""
    name = next((name for name in LOCAL_RANK_VARIABLES if name in environ), None)
    if name is None:
        return None
    ours = f"{name}={environ[name]}"
    above = _parent(os.getpid(), root)
    while above > 0:
        variables = _read(root / f"proc/{above}/environ")
        if ours not in variables.split("\0"):
            job = environ.get("SLURM_CPUS_ON_NODE", "")
            if not variables and job.isdecimal():
                return int(job)  # SLURM's daemon is root's: we cannot read it, and it is not confined to the job
            return len(os.sched_getaffinity(above))
        above = _parent(above, root)
    return None


def _parent(process: int, root: Path) -> int:
    """The number of the process above; 0 where there is none that we can see."""
    words = _read(root / f"proc/{process}/stat").rpartition(")")[2].split()
    return int(words[1]) if len(words) > 1 else 0


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
        return file.read_bytes().decode(errors="surrogateescape")
    except OSError:
        return ""
