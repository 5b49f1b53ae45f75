"""Where the ranks of an MPI job meet: mpirun tells each process its rank, but no address; they agree on one by MPI."""

from __future__ import annotations

import socket

from smoe_ds.errors import LaunchError
from smoe_ds.parallel.env import Env


def agree_on_meeting_point(env: Env) -> tuple[str, int]:
    """Rank 0's host and a free port there, the same on all ranks.

    Args:
        env: this process as mpirun's variables describe it.

    Raises:
        LaunchError: there is no usable MPI, or the MPI library in use is not that of mpirun.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py is there, but no MPI library
        raise LaunchError(
            f"{env.launcher}: MASTER_ADDR and MASTER_PORT are not set and mpi4py cannot be used to agree on them "
            f"({str(error).splitlines()[0]}); set both, or install mpi4py and the MPI library of this mpirun"
        ) from error
    world = MPI.COMM_WORLD
    if (world.Get_rank(), world.Get_size()) != (env.rank, env.world_size):
        raise LaunchError(
            f"{env.launcher}: mpirun says rank {env.rank} of {env.world_size}, mpi4py says rank {world.Get_rank()} of "
            f"{world.Get_size()}: mpi4py uses another MPI ({MPI.Get_library_version().splitlines()[0].strip()}) than "
            "mpirun; start with the mpirun of that MPI, or set MASTER_ADDR and MASTER_PORT"
        )
    mine = None
    if env.rank == 0:
        from smoe_ds.parallel.process_group import free_port

        one_host = env.local_world_size == env.world_size
        mine = ("127.0.0.1" if one_host else socket.gethostname(), free_port())
    address, port = world.bcast(mine, root=0)
    return env.master_addr or address, env.master_port or port
