"""The facts that the choice of the experts' backend follows from, as a layer finds them on its device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from smoe_ds.config.block import BlockSettings
from smoe_ds.moe.expert_backends import Accelerator, choose_backend
from smoe_ds.moe.experts import ExpertFFN, ReadyFFN
from smoe_ds.moe.experts_grouped import grouped_mm_problem


def backend_here(
    block: BlockSettings,
    experts: Sequence[Callable[[Tensor], Tensor]],
    device: torch.device,
    dtype: torch.dtype,
    *,
    ep_size: int,
) -> str:
    """``loop``, ``lean`` or ``grouped`` for these experts, see :func:`smoe_ds.moe.expert_backends.choose_backend`.

    Args:
        block: the settings of the layer.
        experts: the experts of the layer on this rank, at least one.
        device: where the rows are.
        dtype: of the rows.
        ep_size: ranks that share the experts.

    Raises:
        ValueError: the setting cannot work here; says why.
    """
    unusual = _unusual(experts, device)
    rows, columns = (0, 0) if unusual else cast(ExpertFFN | ReadyFFN, experts[0]).w1.shape
    return choose_backend(
        block.expert_backend,
        accelerator_of(device),
        str(dtype).removeprefix("torch."),
        ep_size=ep_size,
        widths=(columns, rows),
        uneven=block.uneven or _differ_in_width(experts),
        unusual=unusual,
        grouped_problem=lambda: grouped_mm_problem(device, dtype),
    )


def accelerator_of(device: torch.device) -> Accelerator:
    """Kind and compute capability of a device."""
    return Accelerator(device.type, torch.cuda.get_device_capability(device) if device.type == "cuda" else None)


def _differ_in_width(experts: Sequence[Callable[[Tensor], Tensor]]) -> bool:
    return len({expert.w1.shape for expert in experts if isinstance(expert, ExpertFFN | ReadyFFN)}) > 1


def _unusual(experts: Sequence[Callable[[Tensor], Tensor]], device: torch.device) -> str | None:
    """Why experts have to be called as modules, one after the other; None if they need not."""
    if any(type(expert) not in (ExpertFFN, ReadyFFN) for expert in experts):
        return "the experts are not the built-in ones"
    modules = [expert for expert in experts if isinstance(expert, nn.Module)]
    if any(expert._forward_hooks or expert._forward_pre_hooks for expert in modules):
        return "hooks on experts would not be called"
    built_in = cast(Sequence[ExpertFFN | ReadyFFN], experts)
    if len({expert.activation for expert in built_in}) > 1:
        return "the experts differ in activation"
    return "it does not know autocast" if torch.is_autocast_enabled(device.type) else None
