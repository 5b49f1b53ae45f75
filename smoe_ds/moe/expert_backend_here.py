"""The facts that the choice of the experts' backend follows from, as a layer finds them on its device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from smoe_ds.moe.expert_backends import Accelerator, choose_backend
from smoe_ds.moe.experts import ExpertFFN
from smoe_ds.moe.experts_grouped import grouped_mm_problem


def backend_here(
    setting: str, experts: Sequence[nn.Module], device: torch.device, dtype: torch.dtype, *, ep_size: int
) -> str:
    """``loop``, ``lean`` or ``grouped`` for these experts, see :func:`smoe_ds.moe.expert_backends.choose_backend`.

    Args:
        setting: ``expert_backend``.
        experts: the experts of the layer on this rank, at least one.
        device: where the rows are.
        dtype: of the rows.
        ep_size: ranks that share the experts.

    Raises:
        ValueError: the setting cannot work here; says why.
    """
    unusual = _unusual(experts, device)
    rows, columns = (0, 0) if unusual else cast(ExpertFFN, experts[0]).w1.shape
    return choose_backend(
        setting,
        accelerator_of(device),
        str(dtype).removeprefix("torch."),
        ep_size=ep_size,
        widths=(columns, rows),
        unusual=unusual,
        grouped_problem=lambda: grouped_mm_problem(device, dtype),
    )


def accelerator_of(device: torch.device) -> Accelerator:
    """Kind and compute capability of a device."""
    return Accelerator(device.type, torch.cuda.get_device_capability(device) if device.type == "cuda" else None)


def _unusual(experts: Sequence[nn.Module], device: torch.device) -> str | None:
    """Why experts have to be called as modules, one after the other; None if they need not."""
    if any(type(expert) is not ExpertFFN for expert in experts):
        return "the experts are not the built-in ones"
    if any(expert._forward_hooks or expert._forward_pre_hooks for expert in experts):
        return "hooks on experts would not be called"
    built_in = cast(Sequence[ExpertFFN], experts)
    if len({(expert.activation, expert.w1.shape) for expert in built_in}) > 1:
        return "the experts differ in activation or width"
    return "it does not know autocast" if torch.is_autocast_enabled(device.type) else None
