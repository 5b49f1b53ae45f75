"""Kernels that compute the same bits in every run, where PyTorch would take faster ones that do not."""

from __future__ import annotations

import os

import torch


def make_deterministic() -> None:
    """For the rest of the process: repeatable kernels only; an operation that has none raises and names itself.

    On a GPU, the backward pass of fused attention adds to the queries' gradient in whatever order its blocks end, and
    cuBLAS may choose among workspaces. On a CPU nothing changes. Must be called before the first matrix product on a
    GPU. Other versions of PyTorch or CUDA, or another kind of GPU, still round differently.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing here reads what it has not written
    torch.backends.cudnn.benchmark = False
