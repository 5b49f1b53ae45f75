"""Chains of tensors at ep_size 2 and 4 equal one process: outputs, and gradients of the common centre too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests.helpers.ranks import run_ranks

D, F, STRATA = 6, 10, [4, 4]


def one_pass(rank: int, ep_size: int, part: int, chunks: int) -> dict[str, Any]:
    """Output and gradients of this rank's part of the input."""
    from smoe_ds.moe import StratifiedMoE
    from smoe_ds.moe.expert_parallel import ExpertParallelDispatcher
    from tests.helpers.layers import add_noise

    settings: dict[str, Any] = {"experts": {"kind": "mpo"}, "exchange_chunks": chunks}
    layer = StratifiedMoE(D, F, STRATA, ep_size=ep_size, ep_rank=rank, seed=3, **settings).double()
    add_noise(layer, 0.3)
    if ep_size > 1:
        layer.dispatcher = ExpertParallelDispatcher(dist.group.WORLD, chunks)
    layer.eval()
    generator = torch.Generator().manual_seed(part)
    x = torch.randn(2, 3 + part, D, generator=generator, dtype=torch.float64, requires_grad=True)
    y, _ = layer(x)
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
    return {"y": y.detach(), "x": x.grad, "gradients": {n: p.grad for n, p in layer.named_parameters()}}


def on_rank(rank: int, world_size: int, chunks: int) -> dict[str, Any]:
    return one_pass(rank, world_size, rank, chunks)


@pytest.mark.multirank
@pytest.mark.parametrize(("ep_size", "chunks"), [(2, 1), (2, 2), (4, 1)])
def test_equals_one_process(ep_size: int, chunks: int) -> None:
    alone = [one_pass(0, 1, part, 1) for part in range(ep_size)]
    spread = run_ranks(on_rank, ep_size, chunks)
    for one, other in zip(alone, spread, strict=True):
        torch.testing.assert_close(other["y"], one["y"], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(other["x"], one["x"], rtol=1e-10, atol=1e-10)
    for name in alone[0]["gradients"]:  # an expert's on the rank that has it; others summed, as a step sums them
        found = sum(one["gradients"][name] for one in spread if name in one["gradients"])
        expected = sum(one["gradients"][name] for one in alone)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
