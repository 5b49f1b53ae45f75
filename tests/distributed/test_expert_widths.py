"""Experts of different width, gates with cosine scores and thresholds, spread over ranks: equal to one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from smoe_ds.moe.expert_parallel import ExpertParallelDispatcher, sum_over_ranks
from smoe_ds.moe.losses import p_penalty_loss
from tests.helpers.layers import noisy_layer
from tests.helpers.ranks import run_ranks

D, F = 6, 16
STRATA, RATIOS = [3, 5], [1, 2, 1, 1, 3, 1, 2, 5]
ROUTERS: dict[str, dict[str, Any]] = {
    "top_k": {"second_expert": "argmax"},
    "top_p": {"router": {"kind": "top_p", "threshold": 0.7, "combine_weights": "after_drop"}, "gate_scores": "cosine"},
}


def one_pass(router: str, rank: int, ep_size: int, parts: list[int]) -> dict[str, Any]:
    """Output and gradients of some parts of the input, the penalty over all of them in the objective."""
    settings = {"expert_widths": RATIOS, "capacity_factor": None, **ROUTERS[router]}
    if router == "top_p":
        settings["second_expert"] = "sample"  # the default: it has no second expert to draw
    layer = noisy_layer(D, F, STRATA, ep_size=ep_size, ep_rank=rank, **settings)
    if ep_size > 1:
        layer.dispatcher = ExpertParallelDispatcher(dist.group.WORLD)
    rows = [torch.randn(5 + part, D, generator=torch.Generator().manual_seed(part)).double() for part in parts]
    x = torch.cat(rows).requires_grad_()
    y, stats = layer(x)
    over_ranks = (sum_over_ranks, ep_size) if ep_size > 1 else (None, 1)
    loss = p_penalty_loss([stats], *over_ranks)
    target = torch.cat([torch.linspace(-1, 1, one.numel()).double() for one in rows])
    ((y.flatten() * target).sum() + loss / ep_size).backward()
    grads = {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}
    return {"y": y.detach(), "x": x.grad, "loss": loss.item(), "grads": grads}


def on_rank(rank: int, world_size: int, router: str) -> dict[str, Any]:
    return one_pass(router, rank, world_size, [rank])


@pytest.mark.multirank
@pytest.mark.parametrize("ep_size", [2, 4])
@pytest.mark.parametrize("router", ROUTERS)
def test_equals_one_process(router: str, ep_size: int) -> None:
    alone = one_pass(router, 0, 1, list(range(ep_size)))
    spread = run_ranks(on_rank, ep_size, router)
    close = {"rtol": 1e-10, "atol": 1e-10}
    for name in ("y", "x"):
        torch.testing.assert_close(torch.cat([found[name] for found in spread]), alone[name], **close)
    losses = [found["loss"] for found in spread]
    assert sum(losses) / ep_size == pytest.approx(alone["loss"], rel=1e-12)
    for name, expected in alone["grads"].items():
        parts: list[Tensor] = [found["grads"][name] for found in spread if name in found["grads"]]
        assert len(parts) == (1 if name.startswith("experts.") else ep_size)
        torch.testing.assert_close(torch.stack(parts).sum(0), expected, **close)
