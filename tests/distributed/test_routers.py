"""Every router at ep_size 2 and 4 equals one process: outputs, statistics and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist

from smoe_ds.config.routers import ROUTERS
from tests.helpers.ranks import run_ranks

KINDS = {section.model_fields["kind"].default: section for section in ROUTERS}
D, F, STRATA = 6, 10, [4, 4]


def one_pass(kind: str, rank: int, ep_size: int, part: int, training: bool) -> dict[str, Any]:
    """Output, rows wanted and gradients of this rank's part of the input."""
    from smoe_ds.moe import StratifiedMoE
    from smoe_ds.moe.expert_parallel import ExpertParallelDispatcher
    from tests.helpers.layers import add_noise

    layer = StratifiedMoE(D, F, STRATA, router=KINDS[kind](), ep_size=ep_size, ep_rank=rank, seed=3).double()
    add_noise(layer, 0.3)
    if ep_size > 1:
        layer.dispatcher = ExpertParallelDispatcher(dist.group.WORLD)
    layer.train(training)
    torch.manual_seed(part)
    generator = torch.Generator().manual_seed(part)
    x = torch.randn(2, 3 + part, D, generator=generator, dtype=torch.float64, requires_grad=True)
    ids = torch.randint(4, 40, (2, 3 + part), generator=generator)
    y, stats = layer(x, None, None, ids)
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
    experts = {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}
    wanted = [stratum.requested_KE.sum(0).tolist() for stratum in stats.strata]
    return {"y": y.detach(), "x": x.grad, "wanted": wanted, "gradients": experts}


def on_rank(rank: int, world_size: int, kind: str, training: bool) -> dict[str, Any]:
    return one_pass(kind, rank, world_size, rank, training)


@pytest.mark.multirank
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("ep_size", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_one_process(kind: str, ep_size: int, training: bool) -> None:
    alone = [one_pass(kind, 0, 1, part, training) for part in range(ep_size)]
    spread = run_ranks(on_rank, ep_size, kind, training)
    for one, other in zip(alone, spread, strict=True):
        torch.testing.assert_close(other["y"], one["y"], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(other["x"], one["x"], rtol=1e-10, atol=1e-10)
        assert other["wanted"] == one["wanted"]
    for rank, found in enumerate(spread):
        for name, gradient in found["gradients"].items():
            of_expert = name.startswith("experts.")  # summed over all ranks' rows; other weights: of its own
            parts = range(ep_size) if of_expert else [rank]
            expected = sum(alone[part]["gradients"].get(name, 0) for part in parts)
            torch.testing.assert_close(gradient, torch.as_tensor(expected) + 0 * gradient, rtol=1e-10, atol=1e-10)
