"""What the processes of a study are started with: a command, their GPUs, and nothing of a launcher around the study."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from smoe_ds.errors import LaunchError

_OF_LAUNCHERS = ("SLURM_", "PMI_", "PMIX_", "PMI2_", "OMPI_", "MPI_", "PALS_", "FLUX_", "TORCHELASTIC_")
_OF_RANKS = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
_VISIBLE = "CUDA_VISIBLE_DEVICES"


def command(ranks: int, arguments: Sequence[str]) -> list[str]:
    """``smoe-ds ARGUMENTS`` on one host: this interpreter, under torchrun where there are several ranks."""
    if ranks == 1:
        return [sys.executable, "-m", "smoe_ds", *arguments]
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return [sys.executable, "-m", *launcher, "-m", "smoe_ds", *arguments]


def environment(environ: Mapping[str, str], threads: int, devices: Sequence[str]) -> dict[str, str]:
    """The environment of a run: a study may run under ``srun``, but its runs are no part of that job step's world.

    Args:
        environ: of the study.
        threads: of each rank.
        devices: GPUs of the run; none: what the study itself sees.
    """
    kept = {name: value for name, value in environ.items() if not name.startswith(_OF_LAUNCHERS)}
    kept = {name: value for name, value in kept.items() if name not in _OF_RANKS}
    kept["OMP_NUM_THREADS"] = str(threads)
    if devices:
        kept[_VISIBLE] = ",".join(devices)
    return kept


def tell_to_stop(pid: int, ranks: int) -> None:
    """Lets a run save itself and end.

    Several ranks are told directly: torchrun, told itself, would kill them 30 seconds later.

    Args:
        pid: of the process that `command` started; nothing happens if it has ended.
        ranks: of the run.
    """
    told = [pid] if ranks == 1 else _children(pid) or [pid]
    for one in told:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGTERM)


def _children(pid: int) -> list[int]:
    try:
        lists = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has ended meanwhile
        return []
    return [int(child) for text in lists for child in text.split()]


def gpus(environ: Mapping[str, str]) -> list[str]:
    """The GPUs that a process with this environment may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    if environ.get("DS_ACCELERATOR", "").lower() == "cpu":
        return []
    if _VISIBLE in environ:
        return [name.strip() for name in environ[_VISIBLE].split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def shares(devices: Sequence[str], jobs: int, ranks: int) -> list[list[str]]:
    """The GPUs of each of ``jobs`` runs at once; empty lists without a GPU.

    Raises:
        LaunchError: there are some, but fewer than all ranks need.
    """
    if devices and len(devices) < jobs * ranks:
        words = f"{jobs} runs of {ranks} ranks" if ranks > 1 else f"{jobs} runs"
        raise LaunchError(
            f"--jobs {jobs}: {words} at once need {jobs * ranks} GPUs, there are {len(devices)}; lower it, or set "
            "DS_ACCELERATOR=cpu to train on the processor"
        )
    return [list(devices[job * ranks : (job + 1) * ranks]) for job in range(jobs)]


def threads_each(jobs: int, ranks: int, environ: Mapping[str, str]) -> int:
    """Threads of each rank, if all runs share the cores of this process, or the ``OMP_NUM_THREADS`` given to it."""
    cores, given = len(os.sched_getaffinity(0)), environ.get("OMP_NUM_THREADS", "")
    together = int(given) if given.isdecimal() else cores
    return max(1, together // (jobs * ranks))
