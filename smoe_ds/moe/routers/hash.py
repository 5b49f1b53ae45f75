"""Hash layers: a fixed table instead of a gate."""

from __future__ import annotations

import heapq

import torch
from torch import Tensor

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.routers.hash import Hash
from smoe_ds.moe.routers.router import Router, fixed_routing
from smoe_ds.moe.routing import Routing, RoutingContext
from smoe_ds.moe.seeding import derive_seed

_FIRST_IDS = 1 << 16
"""Ids that a table holds; larger ones, which no vocabulary here has, start again at 0."""

_PADDING = 0
_SHIFT = 10
"""Of Mandelbrot's law. Vocabularies begin with control symbols and bytes, which are no more frequent than pieces."""


class HashRouter(Router):
    """``expert = table[id]``, weight 1; each stratum of each layer has a table of its own, a function of their names.

    Source: Roller et al., arXiv 2106.04426, 3.1. The paper counts ids in the training text; an even table expects
    what Mandelbrot's law says, 1 / (id + 10), and no padding; a balanced one Zipf's, 1 / (id + 1).
    """

    table: Tensor

    def __init__(self, block: BlockSettings, d_model: int, visible: int) -> None:
        super().__init__(block, d_model, visible)
        self.settings: Hash = block.router
        self.register_buffer("table", torch.zeros(_FIRST_IDS, dtype=torch.long), persistent=False)

    def initialize(self, *name: object) -> None:
        if self.table.is_meta:
            return
        _, *place = name  # without the seed: weights may come from a run with another one
        generator = torch.Generator().manual_seed(derive_seed(*place, "table"))
        if self.settings.table == "random":
            table = torch.randint(self.visible, (_FIRST_IDS,), generator=generator)
        else:
            expected = 1 / (torch.arange(_FIRST_IDS).double() + (_SHIFT if self.settings.table == "even" else 1))
            if self.settings.table == "even":
                expected[_PADDING] = 0
            table = balanced_table(expected, self.visible, generator)
        self.table.copy_(table)

    def forward(self, h_TD: Tensor, gate_ED: Tensor | None, context: RoutingContext) -> Routing:
        assert context.tokens is not None
        ids_T = context.tokens.ids if self.settings.by == "token" else context.tokens.language
        expert_T = self.table[ids_T % _FIRST_IDS]
        return fixed_routing(expert_T, self.visible, h_TD)


def balanced_table(frequency_V: Tensor, num_experts: int, generator: torch.Generator | None = None) -> Tensor:
    """The expert of each id [V]: one after the other, each to the expert with the least frequency so far.

    Args:
        frequency_V: how often each id occurs, or its share; falling, but for the first.
        num_experts: E.
        generator: puts the experts in a random order, so that tables of several layers differ; None: 0 to E - 1.
    """
    order = list(range(num_experts)) if generator is None else torch.randperm(num_experts, generator=generator).tolist()
    loads = [(0.0, place) for place in range(num_experts)]
    table = []
    for frequency in frequency_V.tolist():
        load, place = heapq.heappop(loads)
        table.append(order[place])
        heapq.heappush(loads, (load + frequency, place))
    return torch.tensor(table)
