"""Hears what the routers of blocks answer in a forward pass, so that nothing is routed a second time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from torch import nn
from torch.utils.hooks import RemovableHandle

from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.moe.mixture import Mixture
from smoe_ds.moe.routing import Routing

Hear = Callable[[str, Mixture, Routing], None]
"""Told a block's name, the mixture of one of its strata, and what its router answered."""


def moe_blocks(model: nn.Module) -> dict[str, StratifiedMoE]:
    """The stratified blocks of a model, by name, encoder first."""
    return {name: module for name, module in model.named_modules() if isinstance(module, StratifiedMoE)}


def listen(blocks: Mapping[str, StratifiedMoE], hear: Hear) -> list[RemovableHandle]:
    """Has every answer of every router told to ``hear``, until the handles are removed.

    Args:
        blocks: by name.
        hear: called within the forward pass, strata in their order.
    """

    def listener(name: str, mixture: Mixture) -> Callable[[nn.Module, Any, Routing], None]:
        return lambda _module, _inputs, routing: hear(name, mixture, routing)

    return [
        mixture.router.register_forward_hook(listener(name, mixture))
        for name, block in blocks.items()
        for mixture in cast(list[Mixture], list(block.mixtures))
    ]
