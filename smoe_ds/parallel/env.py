"""This process among all processes of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Env:
    """Rank, world size and meeting point.

    Attributes:
        rank: number of this process, from 0.
        world_size: number of processes.
        local_rank: number of this process on its host; the GPU it uses.
        local_world_size: processes on its host.
        master_addr: host where the ranks meet; None if they have to agree on it (MPI).
        master_port: port there; None if it has to be agreed on (MPI) or chosen (one process).
        launcher: "slurm", "torchrun", "deepspeed", "environment", "openmpi", "mpich", "intelmpi", "mpi" or "single".
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    master_addr: str | None
    master_port: int | None
    launcher: str
