"""What a forward pass really does: FLOPs of its matrix products, and bytes that it leaves for the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from smoe_ds.moe.loads import StratumLoad
from smoe_ds.moe.stats import BlockStats


def _grouped_mm_flops(rows: Sequence[int], weights: Sequence[int], *_: Any, **__: Any) -> int:
    """[R, D] by [E, D, F], each row with one of the E matrices."""
    return 2 * prod(rows) * weights[-1]


def counted_flops(forward: Callable[[], Any]) -> int:
    """FLOPs of the matrix products of a forward pass, attention scores among them."""
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten._grouped_mm: _grouped_mm_flops})
    with torch.no_grad(), counter, sdpa_kernel(SDPBackend.MATH):
        forward()
    found: int = counter.get_total_flops()
    return found


def counted_bytes(module: nn.Module, forward: Callable[[], Any]) -> tuple[int, Any]:
    """Bytes of the different storages that a backward pass would find, parameters left out; and the pass's result."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept: dict[int, Tensor] = {}  # tensors, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in parameters:
            kept[address] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()), result


def counted_loads(stats: BlockStats, top_k: int) -> list[StratumLoad]:
    """Tokens and rows of each stratum on one rank that holds all experts, as a layer counted them."""
    loads = []
    for stratum in stats.strata:
        rows = stratum.num_tokens * top_k - stratum.num_dropped
        experts = stratum.requested_KE.shape[1]
        loads.append(StratumLoad(stratum.num_tokens, rows, rows, experts, 0.0, 0.0))
    return loads
