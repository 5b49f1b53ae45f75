"""Memory that a rank holds at its peak."""

from __future__ import annotations

import resource

import torch


def peak_memory(device: torch.device) -> dict[str, int]:
    """Bytes at the peak so far: of the process on its host, and of its tensors on a GPU."""
    held = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}  # Linux counts KiB
    if device.type == "cuda":
        held["device"] = torch.cuda.max_memory_allocated(device)
    return held
