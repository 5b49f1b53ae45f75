"""Starts and ends the process group, in one way for one process and for many, whoever launched them."""

from __future__ import annotations

import datetime
import logging
import os
import socket
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from smoe_ds.errors import LaunchError
from smoe_ds.parallel.env import Env
from smoe_ds.parallel.interface import LOOPBACK, choose_interface
from smoe_ds.parallel.mpi import agree_on_meeting_point
from smoe_ds.parallel.ports import free_port
from smoe_ds.text_line import first_line

if TYPE_CHECKING:
    import torch


def init_distributed(
    env: Env, device: torch.device, *, timeout: float = 1800, who_came: Callable[[], str] | None = None
) -> Env:
    """Initialises torch.distributed through DeepSpeed (gloo on CPU, NCCL on CUDA), one process included.

    Nothing is compiled: DeepSpeed's shared-memory op for the CPU, which training does not use, is switched off,
    because a run killed while compiling leaves a lock on which every later run waits for ever.

    Args:
        env: this process, from `discover`.
        device: the device this rank computes on; decides the backend.
        timeout: how long a collective or the meeting may take [s].
        who_came: says which ranks are missing, if they cannot meet.

    Returns:
        `env` with the meeting point filled in.

    Raises:
        LaunchError: the ranks cannot meet, or another number of them came than promised.
    """
    alone = env.world_size == 1 and env.master_port is None
    env = with_meeting_point(env)
    _set_variables(env, device)
    choose_interface(env, cuda=device.type == "cuda")
    _quieten()

    import deepspeed
    import torch
    import torch.distributed as dist

    if device.type == "cpu":
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    else:
        torch.cuda.set_device(device)
    backend, limit = "gloo" if device.type == "cpu" else "nccl", datetime.timedelta(seconds=timeout)
    try:
        if alone:  # meets nobody, so that no port has to be free; DeepSpeed takes the group that it finds
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, timeout=limit)
        deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False, timeout=limit)
    except (RuntimeError, ValueError) as error:
        raise LaunchError(_no_meeting(env, error, who_came)) from error
    found = (dist.get_rank(), dist.get_world_size())
    if found != (env.rank, env.world_size):
        raise LaunchError(
            f"{env.launcher} promised rank {env.rank} of {env.world_size}, the process group has rank {found[0]} of "
            f"{found[1]}; unset left-over RANK and WORLD_SIZE variables"
        )
    return env


def _no_meeting(env: Env, error: Exception, who_came: Callable[[], str] | None) -> str:
    """Why the ranks did not meet, and the remedy; who came matters only where the port could be opened."""
    where, reason = f"{env.master_addr}:{env.master_port}", first_line(str(error))
    if "EADDRINUSE" in reason:
        return (
            f"rank {env.rank} of {env.world_size} (started by {env.launcher}): port {env.master_port} of "
            f"{socket.gethostname()} is in use by another program; set MASTER_PORT to a free port, the same for all "
            "ranks"
        )
    roll_call = f"; {who_came()}" if who_came else ""
    return (
        f"rank {env.rank} of {env.world_size} could not meet the others at {where} (started by {env.launcher}): "
        f"{reason}; check that every host reaches the address through the interface "
        f"{os.environ.get('GLOO_SOCKET_IFNAME', 'of its name')}, or set MASTER_ADDR, MASTER_PORT and GLOO_SOCKET_IFNAME"
        f"{roll_call}"
    )


def shutdown() -> None:
    """Ends the process group, if there is one. Call it on every rank when all ranks are done."""
    import torch.distributed as dist

    if dist.is_initialized():
        import deepspeed.comm

        deepspeed.comm.destroy_process_group()


def with_meeting_point(env: Env) -> Env:
    """`env` with the address and port where the ranks meet; under MPI they agree on it."""
    if env.master_addr is not None and env.master_port is not None:
        address, port = env.master_addr, env.master_port
    elif env.world_size == 1:
        address, port = env.master_addr or LOOPBACK[0], env.master_port or free_port()
    else:
        address, port = agree_on_meeting_point(env)
    return Env(env.rank, env.world_size, env.local_rank, env.local_world_size, address, port, env.launcher)


def _set_variables(env: Env, device: torch.device) -> None:
    os.environ.update(
        RANK=str(env.rank),
        WORLD_SIZE=str(env.world_size),
        LOCAL_RANK=str(env.local_rank),
        LOCAL_WORLD_SIZE=str(env.local_world_size),
        MASTER_ADDR=str(env.master_addr),
        MASTER_PORT=str(env.master_port),
    )
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def _quieten() -> None:
    """Drops messages that tell a user of this program nothing, and only those."""
    warnings.filterwarnings("ignore", category=FutureWarning, message=r".*torch\.distributed\..* is deprecated.*")
    warnings.filterwarnings("ignore", category=DeprecationWarning, message=r".*torch\.jit\..*")
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
