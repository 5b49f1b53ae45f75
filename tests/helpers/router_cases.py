"""A layer with a router, what it is fed, and the loop beside it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from smoe_ds.moe import StratifiedMoE
from tests.helpers.layers import add_noise
from tests.helpers.naive_block import NaiveExpert, NaiveRouter, naive_block

D, F, VOCAB = 6, 10, 40
SENTENCES, LENGTH = 3, 9


def sentences(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """x [B, S, D] float64, token ids [B, S], and padding at the ends [B, S]."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(SENTENCES, LENGTH, D, generator=generator, dtype=torch.float64)
    ids = torch.randint(4, VOCAB, (SENTENCES, LENGTH), generator=generator)
    padding = torch.arange(LENGTH) >= torch.tensor([[LENGTH], [LENGTH - 2], [LENGTH - 5]])
    return x, ids.masked_fill(padding, 0), padding


def router_layer(strata: list[int], router: dict[str, Any], **settings: Any) -> StratifiedMoE:
    """A layer in float64, its weights moved off their initial values."""
    layer = StratifiedMoE(D, F, strata, router=router, seed=3, **settings).double()
    add_noise(layer, 0.3)
    return layer


def assert_equals_loop(
    layer: StratifiedMoE,
    router: NaiveRouter,
    seed: int = 0,
    noise_seed: int = 7,
    expert: NaiveExpert | None = None,
    pair: Tensor | None = None,
) -> None:
    """Outputs, gradients, requested capacity, drops and rows wanted are those of the loop over tokens.

    Args:
        layer: in training or evaluation.
        router: its naive twin.
        seed: of the input.
        noise_seed: of what both draw.
        expert: the naive twin of the experts; None: feed-forward networks.
        pair: languages of the sentences [B, 2], for a router that goes by them.
    """
    x, ids, padding = sentences(seed)
    x.requires_grad_()
    torch.manual_seed(noise_seed)
    y, stats = layer(x, padding, None, ids, pair=pair)
    weights = layer.state_dict(keep_vars=True)
    torch.manual_seed(noise_seed)
    loop = naive_block(
        weights,
        layer.block,
        router,
        x.reshape(-1, D),
        training=layer.training,
        padding_N=padding.reshape(-1).tolist(),
        expert=expert,
    )
    torch.testing.assert_close(y.reshape(-1, D), loop.y_ND, rtol=1e-12, atol=1e-12)
    assert stats.requested_capacity.reshape(-1).tolist() == loop.requested_capacity
    assert sum(stratum.num_dropped for stratum in stats.strata) == loop.num_dropped
    for i, stratum in enumerate(stats.strata):
        first = sum(layer.block.strata[:i])
        wanted = [0] * stratum.requested_KE.shape[1]
        for experts in loop.taken[i].values():
            for expert in experts:
                wanted[expert - first] += 1
        assert stratum.requested_KE.sum(0).tolist() == wanted
    target = torch.linspace(-1, 1, y.numel(), dtype=y.dtype)
    inputs = [x, *layer.parameters()]
    found = torch.autograd.grad((y.flatten() * target).sum(), inputs, allow_unused=True)
    expected = torch.autograd.grad((loop.y_ND.flatten() * target).sum(), inputs, allow_unused=True)
    for parameter, one, other in zip(inputs, found, expected, strict=True):
        zeros = torch.zeros_like(parameter)
        torch.testing.assert_close(
            zeros if one is None else one, zeros if other is None else other, rtol=1e-10, atol=1e-10
        )
