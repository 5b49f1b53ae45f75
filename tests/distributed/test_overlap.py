"""Exchanges are under way while experts work, forward and backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.exchange import Exchange
from smoe_ds.moe.expert_parallel import ExpertParallelDispatcher
from tests.helpers.ranks import run_ranks


class Note(torch.autograd.Function):
    """Notes when an expert is computed, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, events: list[str], name: str) -> Tensor:
        ctx.events, ctx.name = events, name
        events.append(f"expert {name}")
        return x * 2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        ctx.events.append(f"expert {ctx.name}")
        return grad * 2, None, None


def events_of_a_pass(rank: int, world_size: int) -> tuple[list[str], list[str]]:
    """What happens in forward and in backward on one rank: two chunks with one expert each."""
    events: list[str] = []

    class Expert(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.name = str(len(names))
            names.append(self.name)

        def forward(self, x: Tensor) -> Tensor:
            return Note.apply(x, events, self.name)

    names: list[str] = []
    start, finish = Exchange.start, Exchange.finish

    def noting_start(self: Exchange, chunk: int, out: Tensor, rows: Tensor, *, there: bool) -> None:
        events.append(f"{'send' if there else 'return'} {chunk}")
        start(self, chunk, out, rows, there=there)

    def noting_finish(self: Exchange, chunk: int) -> None:
        events.append(f"wait {chunk}")
        finish(self, chunk)

    Exchange.start, Exchange.finish = noting_start, noting_finish  # type: ignore[method-assign]
    layer = StratifiedMoE(8, 8, [4], expert=Expert, exchange_chunks=2, ep_size=world_size, ep_rank=rank)
    layer.dispatcher = ExpertParallelDispatcher(dist.group.WORLD, 2)
    y, _ = layer(torch.randn(20, 8, requires_grad=True))
    forward = events.copy()
    events.clear()
    y.sum().backward()
    return forward, events


@pytest.mark.multirank
def test_one_chunk_is_computed_while_another_is_under_way() -> None:
    for forward, backward in run_ranks(events_of_a_pass, 2):
        assert forward == [
            *("send 0", "send 1"),
            *("wait 0", "expert 0", "return 0"),
            *("wait 1", "expert 1", "return 1"),
            *("wait 0", "wait 1"),
        ]
        assert backward == [
            *("send 1", "send 0"),
            *("wait 1", "expert 1", "return 1"),
            *("wait 0", "expert 0", "return 0"),
            *("wait 0", "wait 1"),
        ]
