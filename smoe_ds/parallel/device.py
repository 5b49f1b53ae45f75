"""Which device a rank computes on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from smoe_ds.errors import LaunchError
from smoe_ds.parallel.env import Env

if TYPE_CHECKING:
    import torch


def device_of(env: Env) -> torch.device:
    """This rank's GPU if there is one, unless DS_ACCELERATOR says cpu.

    Raises:
        LaunchError: DS_ACCELERATOR is neither, or there are more ranks on this host than GPUs.
    """
    import torch

    chosen = os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
    if chosen not in ("cuda", "cpu"):
        raise LaunchError(f"DS_ACCELERATOR is {chosen!r}, expected cuda or cpu")
    if chosen == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", gpu_of(env.local_rank, torch.cuda.device_count()))


def gpu_of(local_rank: int, num_visible: int) -> int:
    """The GPU of a rank: its local rank, or the only one where the launcher shows each process its own.

    Raises:
        LaunchError: more ranks on this host than GPUs that it shows.
    """
    if num_visible == 1:
        return 0
    if local_rank >= num_visible:
        raise LaunchError(
            f"local rank {local_rank}, but this host has {num_visible} GPUs; start at most {num_visible} ranks on each "
            "host"
        )
    return local_rank


def compute_capability(device: torch.device) -> tuple[int, int] | None:
    """A GPU's generation, e.g. (7, 0) of a V100; None for a processor."""
    import torch

    return torch.cuda.get_device_capability(device) if device.type == "cuda" else None
