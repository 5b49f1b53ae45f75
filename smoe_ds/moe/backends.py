"""How experts are computed: which ways there are, and which one is taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from smoe_ds.moe.experts import ExpertFFN
from smoe_ds.moe.grouped import ROW_BYTES, grouped_mm_problem, is_fast

BACKENDS = ("auto", "loop", "lean", "grouped")


def choose_backend(
    setting: str, experts: Sequence[nn.Module], device: torch.device, dtype: torch.dtype, *, one_rank: bool
) -> str:
    """``loop``, ``lean`` or ``grouped`` for these experts.

    The choice follows from experts, ranks, device and dtype, never from a clock: the ways round differently, and a run
    has to be repeatable.

    Args:
        setting: ``loop``: one expert after the other, any module, the reference. ``lean``: the same with the built-in
            experts' rows and outputs not kept for the backward pass, see :mod:`smoe_ds.moe.lean`. ``grouped``: grouped
            matrix products, see :mod:`smoe_ds.moe.grouped`. ``auto``: grouped where the device has a fast kernel, else
            lean, else loop.
        experts: the experts of the layer on this rank.
        device: where the rows are.
        dtype: of the rows.
        one_rank: all experts are on this rank.

    Raises:
        ValueError: the setting cannot work here; says why.
    """
    if setting == "loop" or not experts:
        return "loop"
    wanted = [setting] if setting != "auto" else [*(["grouped"] if is_fast(device, dtype) else []), "lean"]
    for backend in wanted:
        problem = _problem(backend, experts, device, dtype, one_rank)
        if problem is None:
            return backend
        if setting != "auto":
            raise ValueError(f"expert_backend {setting!r} does not work for {dtype} on {device}: {problem}; use 'loop'")
    return "loop"


def _problem(
    backend: str, experts: Sequence[nn.Module], device: torch.device, dtype: torch.dtype, one_rank: bool
) -> str | None:
    """Why a backend cannot be used; None if it can."""
    if any(type(expert) is not ExpertFFN for expert in experts):
        return "the experts are not the built-in ones"
    if any(expert._forward_hooks or expert._forward_pre_hooks for expert in experts):
        return "hooks on experts would not be called"
    built_in = cast(Sequence[ExpertFFN], experts)
    if len({(expert.activation, expert.w1.shape) for expert in built_in}) > 1:
        return "the experts differ in activation or width"
    if torch.is_autocast_enabled(device.type):
        return "it does not know autocast"
    if backend == "lean":
        return None if one_rank else "the experts are spread over ranks"
    if any(size * dtype.itemsize % ROW_BYTES for size in built_in[0].w1.shape):
        return f"d_model and d_ffn must be multiples of {ROW_BYTES // dtype.itemsize}"
    return grouped_mm_problem(device, dtype)
