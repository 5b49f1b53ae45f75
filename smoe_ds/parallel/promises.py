"""Compares the ranks found with what the launchers promised, so that no run falls apart into N small ones unnoticed."""

from __future__ import annotations

from collections.abc import Mapping

from smoe_ds.errors import LaunchError
from smoe_ds.launch_variables import is_slurm_step, number_in
from smoe_ds.parallel.env import Env

_AGENTS = ("GROUP_WORLD_SIZE", "CROSS_SIZE")
"""How many torchrun, or deepspeed, of how many work together."""
_MPI = (("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE"))
"""Variables that give rank and number of ranks: Open MPI's, then those of MPICH, Intel MPI and SLURM."""


def check_promises(env: Env, environ: Mapping[str, str]) -> None:
    """Compares a process's place in the run with SLURM's and MPI's variables.

    Args:
        env: what was found.
        environ: environment variables.

    Raises:
        LaunchError: they contradict each other; the message shows both.
    """
    if env.launcher != "slurm":
        if is_slurm_step(environ):
            _check_in_step(env, environ)
        else:
            _check_outside_steps(env, environ)
    _check_mpi(env, environ)


def _check_outside_steps(env: Env, environ: Mapping[str, str]) -> None:
    """In a batch script or a shell of salloc: the ranks should fill the job, or ``srun`` was forgotten."""
    if "SLURM_JOB_ID" not in environ:
        return
    # Without --ntasks the job is one task a node; SLURM_TASKS_PER_NODE then may count processors.
    name = next((name for name in ("SLURM_NTASKS", "SLURM_JOB_NUM_NODES", "SLURM_NNODES") if name in environ), None)
    if name is None or env.world_size >= (promised := number_in(environ, name)):
        return
    if env.world_size == 1:
        raise LaunchError(
            f"environment: {name} is {promised}, but this process was not started by srun and would run alone; put "
            "srun before the command (srun --ntasks=1 for one process), or use torchrun, deepspeed or mpirun"
        )
    raise LaunchError(
        f"environment: {env.launcher} says world size {env.world_size}, {name} says {promised}: a part of the job's "
        f"nodes or tasks would be left out; start a rank on each, allocate less, or unset {name}"
    )


def _check_in_step(env: Env, environ: Mapping[str, str]) -> None:
    """Each task of the step is a launcher of its own; all of them must make one run."""
    tasks = number_in(environ, "SLURM_NTASKS")
    agents = next((name for name in _AGENTS if name in environ), None)
    if env.world_size < tasks:
        raise LaunchError(
            f"environment: {env.launcher} says world size {env.world_size}, SLURM_NTASKS says {tasks}; unset RANK and "
            "WORLD_SIZE (or the MPI variables) to go by SLURM, or start one launcher per node that counts all ranks"
        )
    if env.launcher in ("torchrun", "deepspeed") and agents and number_in(environ, agents) != tasks:
        raise LaunchError(
            f"environment: {agents} is {environ[agents]} for {env.launcher}, SLURM_NTASKS is {tasks}: srun started "
            f"{tasks} launchers that do not work together; give torchrun --nnodes, --node-rank, --master-addr and "
            "--master-port, deepspeed --hostfile, --no_ssh, --node_rank, --master_addr and --master_port"
        )
    nodes = number_in(environ, "SLURM_STEP_NUM_NODES") if "SLURM_STEP_NUM_NODES" in environ else 1
    if nodes > 1 and env.local_world_size == env.world_size:
        raise LaunchError(
            f"environment: all {env.world_size} ranks of {env.launcher} are on this host, SLURM_STEP_NUM_NODES is "
            f"{nodes}: {tasks} runs instead of one; start ranks on all hosts, or one launcher with srun --ntasks=1"
        )


def _check_mpi(env: Env, environ: Mapping[str, str]) -> None:
    """Ranks that MPI counts must be the ranks of whoever was believed, or of launchers that each start several."""
    for rank_name, size_name in _MPI:
        if rank_name not in environ or size_name not in environ:
            continue
        rank, size = number_in(environ, rank_name), number_in(environ, size_name)
        same_count = size == env.world_size and env.launcher in ("slurm", "environment", "mpi")
        if env.world_size < size or (same_count and rank != env.rank):
            raise LaunchError(
                f"environment: {env.launcher} says rank {env.rank} of {env.world_size}, {rank_name} and {size_name} "
                f"say rank {rank} of {size}; unset the variables of the launcher that did not start this process"
            )
