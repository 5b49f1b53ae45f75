"""Which process this is: rank, world size and meeting point, read from what the launcher left in the environment.

The innermost launcher decides. ``torchrun`` or ``deepspeed`` inside an ``srun`` step counts as theirs; so does
``mpirun`` (recognised by variables that ``srun`` never sets). What contradicts that, or what the outer launcher
promised (`smoe_ds.parallel.promises`), is an error, never a guess: a wrong guess becomes N silent runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from smoe_ds.errors import LaunchError
from smoe_ds.launch_variables import MPI_RANK_VARIABLES, is_slurm_step, number_in
from smoe_ds.parallel.env import Env
from smoe_ds.parallel.mpi import world_of_mpi4py
from smoe_ds.parallel.nodelist import expand_counts, expand_nodelist
from smoe_ds.parallel.promises import check_promises

_LOOPBACK = "127.0.0.1"
_FIRST_PORT, _PORTS = 15000, 15000  # below the range from which Linux hands out ephemeral ports


def discover(environ: Mapping[str, str] = os.environ) -> Env:
    """Reads rank and world size from the environment; an MPI that says too little there is asked through mpi4py.

    Args:
        environ: environment variables.

    Raises:
        LaunchError: variables are missing, malformed or contradict each other, or MPI does not work.
    """
    found = _from_variables(environ) or _from_mpirun(environ) or _from_slurm(environ) or _from_mpi4py(environ)
    env = found or _single(environ)
    _check_ranges(env)
    check_promises(env, environ)
    return env


def _from_variables(environ: Mapping[str, str]) -> Env | None:
    """torchrun, the deepspeed launcher, or anybody who sets the same variables."""
    present = [name for name in ("RANK", "WORLD_SIZE") if name in environ]
    if not present:
        return None
    needed = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in needed if name not in environ]
    if missing:
        raise LaunchError(
            f"environment: {' and '.join(present)} set but {', '.join(missing)} missing; set {', '.join(needed)}, or "
            "unset them and start with srun, torchrun, deepspeed or mpirun"
        )
    launcher = "environment"
    if "TORCHELASTIC_RUN_ID" in environ:
        launcher = "torchrun"
    elif "CROSS_RANK" in environ and "LOCAL_SIZE" in environ:
        launcher = "deepspeed"
    local_rank = number_in(environ, "LOCAL_RANK")
    local_name = next((name for name in ("LOCAL_WORLD_SIZE", "LOCAL_SIZE") if name in environ), None)
    return Env(
        rank=number_in(environ, "RANK"),
        world_size=number_in(environ, "WORLD_SIZE"),
        local_rank=local_rank,
        local_world_size=number_in(environ, local_name) if local_name else local_rank + 1,
        master_addr=environ["MASTER_ADDR"],
        master_port=number_in(environ, "MASTER_PORT"),
        launcher=launcher,
    )


def _from_mpirun(environ: Mapping[str, str]) -> Env | None:
    """Open MPI's mpirun, or that of MPICH and Intel MPI (Hydra), which alone sets MPI_LOCALRANKID."""
    if "OMPI_COMM_WORLD_RANK" in environ:
        names = (
            "OMPI_COMM_WORLD_RANK",
            "OMPI_COMM_WORLD_SIZE",
            "OMPI_COMM_WORLD_LOCAL_RANK",
            "OMPI_COMM_WORLD_LOCAL_SIZE",
        )
        launcher = "openmpi"
    elif "MPI_LOCALRANKID" in environ and "PMI_RANK" in environ:
        names = ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS")
        launcher = "intelmpi" if "I_MPI_MPIRUN" in environ else "mpich"
    else:
        return None
    missing = [name for name in names if name not in environ]
    if missing:
        raise LaunchError(f"environment: {names[0]} is set but {', '.join(missing)} missing; start with mpirun -n N")
    rank, world_size, local_rank, local_world_size = (number_in(environ, name) for name in names)
    return Env(rank, world_size, local_rank, local_world_size, *_given_meeting_point(environ), launcher)


def _from_slurm(environ: Mapping[str, str]) -> Env | None:
    """One task per process, started by srun."""
    if not is_slurm_step(environ):
        return None
    world_size = number_in(environ, "SLURM_NTASKS")
    nodes = expand_nodelist(environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST", ""))
    address, port = _given_meeting_point(environ)
    if address is None:
        if not nodes:
            raise LaunchError(
                "environment: SLURM_STEP_NODELIST is missing, so the ranks do not know where to meet; set MASTER_ADDR"
            )
        address = _LOOPBACK if len(nodes) == 1 else nodes[0]
    elif len(nodes) > 1 and address in (_LOOPBACK, "localhost", "::1"):
        raise LaunchError(
            f"environment: MASTER_ADDR is {address}, but the step has {len(nodes)} hosts, {', '.join(nodes[:3])}...; "
            "unset MASTER_ADDR to meet on the first of them"
        )
    if port is None and world_size > 1:  # nobody to ask: all tasks know these numbers, and no other step has the same
        job, step = number_in(environ, "SLURM_JOB_ID"), number_in(environ, "SLURM_STEP_ID")
        port = _FIRST_PORT + (job * 31 + step) % _PORTS
    local_rank = number_in(environ, "SLURM_LOCALID")
    return Env(
        rank=number_in(environ, "SLURM_PROCID"),
        world_size=world_size,
        local_rank=local_rank,
        local_world_size=_slurm_tasks_here(environ, local_rank),
        master_addr=address,
        master_port=port,
        launcher="slurm",
    )


def _from_mpi4py(environ: Mapping[str, str]) -> Env | None:
    """A process manager of MPI that told the rank, but not where on the host, or not how many there are."""
    name = next((name for name in MPI_RANK_VARIABLES if name in environ), None)
    if name is None:
        return None
    rank, world_size, local_rank, local_world_size = world_of_mpi4py(name, number_in(environ, name))
    return Env(rank, world_size, local_rank, local_world_size, *_given_meeting_point(environ), "mpi")


def _single(environ: Mapping[str, str]) -> Env:
    address, port = _given_meeting_point(environ)
    return Env(0, 1, 0, 1, address or _LOOPBACK, port, "single")


def _slurm_tasks_here(environ: Mapping[str, str], local_rank: int) -> int:
    for name in ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"):
        if name in environ:
            counts = expand_counts(environ[name])
            node = int(environ.get("SLURM_NODEID", "0"))
            if node < len(counts):
                return counts[node]
    return local_rank + 1


def _given_meeting_point(environ: Mapping[str, str]) -> tuple[str | None, int | None]:
    port = number_in(environ, "MASTER_PORT") if "MASTER_PORT" in environ else None
    return environ.get("MASTER_ADDR"), port


def _check_ranges(env: Env) -> None:
    if not 0 <= env.rank < env.world_size:
        raise LaunchError(f"{env.launcher}: rank {env.rank} is not below the world size {env.world_size}")
    if not 0 <= env.local_rank < env.local_world_size:
        raise LaunchError(
            f"{env.launcher}: local rank {env.local_rank} is not below the local world size {env.local_world_size}"
        )
    if env.local_world_size > env.world_size:
        raise LaunchError(
            f"{env.launcher}: {env.local_world_size} processes on this host, but only {env.world_size} in the world"
        )
