"""Which parameters are experts, and the ranks that share them: DeepSpeed's tags and its own table of groups.

The tags and the groups are made by `smoe_ds.moe.deepspeed_layer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn
    from torch.distributed import ProcessGroup


def expert_group(parameter: nn.Parameter) -> str:
    """Name of the group that an expert's parameter belongs to, e.g. ``ep_size_2``; "" for a dense parameter."""
    return "" if getattr(parameter, "allreduce", True) else str(parameter.group_name)  # type: ignore[attr-defined]


def data_parallel_group(name: str) -> ProcessGroup | None:
    """The ranks that hold the same parameters: all for dense ones (""), an expert-data-parallel group for experts."""
    import torch.distributed as dist

    if not name:
        return dist.group.WORLD
    from deepspeed.utils import groups

    found: ProcessGroup = groups._get_expert_data_parallel_group(name)
    return found


def expert_parallel_group(name: str) -> ProcessGroup:
    """The ranks that hold all experts together, each its share."""
    from deepspeed.utils import groups

    found: ProcessGroup = groups._get_expert_parallel_group(name)
    return found
