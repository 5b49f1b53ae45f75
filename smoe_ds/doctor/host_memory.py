"""How much memory the processes of this job may use on this host: the machine's, cgroups' and SLURM's limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from smoe_ds.parallel.control_groups import control_groups

_MIB = 2**20
_NO_LIMIT = 2**60  # version 1 writes a number near 2^63 where there is none


@dataclass(frozen=True)
class Limit:
    """Memory that is left under one limit.

    Attributes:
        free: [bytes].
        whose: what sets it, in words.
        empty: counted as if nothing ran yet; else what runs now is subtracted.
    """

    free: float
    whose: str
    empty: bool = False


def memory_limits(environ: Mapping[str, str], root: Path = Path("/")) -> list[Limit]:
    """Every limit that holds on this host, the tightest first.

    Args:
        environ: environment variables.
        root: folder that holds ``proc`` and ``sys``.
    """
    groups = [limit for folder in control_groups("memory", root) for limit in _limit_of(folder)]
    limits = [_machine(root), *groups, *_slurm_limit(environ)]
    return sorted(limits, key=lambda limit: limit.free)


def _machine(root: Path) -> Limit:
    for line in (root / "proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return Limit(1024.0 * int(line.split()[1]), "of the machine")
    raise RuntimeError(f"{root / 'proc/meminfo'} has no line MemAvailable")


def _slurm_limit(environ: Mapping[str, str]) -> Iterator[Limit]:
    """What --mem, or --mem-per-cpu, gives the job on this host; SLURM counts in MiB, and 0 stands for all."""
    if int(environ.get("SLURM_MEM_PER_NODE", "0")):
        yield Limit(float(environ["SLURM_MEM_PER_NODE"]) * _MIB, "of SLURM's --mem", empty=True)
    elif int(environ.get("SLURM_MEM_PER_CPU", "0")) and environ.get("SLURM_CPUS_ON_NODE", "").isdecimal():
        megabytes = float(environ["SLURM_MEM_PER_CPU"]) * int(environ["SLURM_CPUS_ON_NODE"])
        yield Limit(megabytes * _MIB, "of SLURM's --mem-per-cpu", empty=True)


def _limit_of(folder: Path) -> Iterator[Limit]:
    """What a control group has left, in either version of the system."""
    for names in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        yield from _limit_by(folder, *names)


def _limit_by(folder: Path, limit: str, used: str, cache: str) -> Iterator[Limit]:
    """The limit of a control group by the names of one version; files it keeps in memory can go."""
    try:
        text = (folder / limit).read_text().strip()
        if text == "max" or int(text) >= _NO_LIMIT:
            return
        numbers = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        free = int(text) - int((folder / used).read_text()) + int(numbers.get(cache, 0))
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # a container shows only a part of the tree
        return
    yield Limit(float(free), f"of control group {folder}")
