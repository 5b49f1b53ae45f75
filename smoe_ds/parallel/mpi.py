"""What MPI alone can tell: the place of a process whose launcher set no variables for it, and where the ranks meet."""

from __future__ import annotations

import socket
from typing import Any

from smoe_ds.errors import LaunchError
from smoe_ds.parallel.env import Env
from smoe_ds.parallel.ports import free_port
from smoe_ds.text_line import first_line

_OTHER_MPI = (
    "start with the mpirun of that MPI, or set MPI4PY_LIBMPI to the library of the MPI that started this (a file like "
    "/usr/lib/x86_64-linux-gnu/libmpi.so.40)"
)


def world_of_mpi4py(variable: str, promised: int) -> tuple[int, int, int, int]:
    """Rank, number of ranks, rank on this host and number of ranks there.

    Args:
        variable: what showed that MPI started this process.
        promised: the rank that it names.

    Raises:
        LaunchError: there is no usable MPI, or the MPI library in use is not that of the launcher.
    """
    mpi = _mpi4py(f"environment: {variable} is {promised}, but nothing says how many ranks there are on which hosts")
    world = mpi.COMM_WORLD
    if world.Get_rank() != promised:
        raise LaunchError(
            f"environment: {variable} is {promised}, mpi4py says rank {world.Get_rank()} of {world.Get_size()}: mpi4py "
            f"uses another MPI ({_library(mpi)}) than the launcher; {_OTHER_MPI}"
        )
    here = world.Split_type(mpi.COMM_TYPE_SHARED)
    return world.Get_rank(), world.Get_size(), here.Get_rank(), here.Get_size()


def agree_on_meeting_point(env: Env) -> tuple[str, int]:
    """Rank 0's host and a free port there, the same on all ranks.

    Args:
        env: this process as mpirun's variables describe it.

    Raises:
        LaunchError: there is no usable MPI, or the MPI library in use is not that of mpirun.
    """
    mpi = _mpi4py(f"{env.launcher}: MASTER_ADDR and MASTER_PORT are not set")
    world = mpi.COMM_WORLD
    if (world.Get_rank(), world.Get_size()) != (env.rank, env.world_size):
        raise LaunchError(
            f"{env.launcher}: mpirun says rank {env.rank} of {env.world_size}, mpi4py says rank {world.Get_rank()} of "
            f"{world.Get_size()}: mpi4py uses another MPI ({_library(mpi)}) than mpirun; {_OTHER_MPI}, or set "
            "MASTER_ADDR and MASTER_PORT"
        )
    mine = None
    if env.rank == 0:
        one_host = env.local_world_size == env.world_size
        mine = ("127.0.0.1" if one_host else socket.gethostname(), free_port())
    address, port = world.bcast(mine, root=0)
    return env.master_addr or address, env.master_port or port


def _mpi4py(why: str) -> Any:
    """mpi4py's MPI, initialised.

    Args:
        why: for what it is needed.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py is there, but no MPI library
        raise LaunchError(
            f"{why}, and mpi4py cannot be used to agree on them ({first_line(str(error))}); install mpi4py and the "
            "MPI library of this mpirun, or set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT"
        ) from error
    return MPI


def _library(mpi: Any) -> str:
    return first_line(str(mpi.Get_library_version()))
