"""Small layers whose weights all matter, and beside each the loop over tokens that must agree with it."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from smoe_ds.moe import StratifiedMoE
from tests.helpers.naive_moe import NaiveResult, Settings, naive_stratified_moe

HOW = ("expert_backend", "exchange_chunks", "check_finite", "seed", "name")
"""Settings that change how a layer computes, or where it starts, but not what it computes."""


def add_noise(module: nn.Module, scale: float, seed: int = 5, steps: int = 0) -> None:
    """Moves weights off zero, one and uniform, and balancing biases too.

    Every tensor is drawn by its name, so that ranks which hold some of the experts hold those of the whole layer.

    Args:
        module: whose parameters, in place.
        scale: standard deviation of what is added.
        seed: other numbers for another seed.
        steps: balancing biases are moved by at most so many steps.
    """
    for name, tensor in module.state_dict(keep_vars=True).items():
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
        if isinstance(tensor, nn.Parameter):
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.data += (scale * noise).to(tensor.dtype)
        elif steps:
            tensor += torch.randint(-steps, steps + 1, tensor.shape, generator=generator)


def noisy_layer(
    d_model: int,
    d_ffn: int,
    strata: Sequence[int],
    top_k: int = 2,
    *,
    dtype: torch.dtype = torch.float64,
    noise: float = 0.3,
    **settings: Any,
) -> StratifiedMoE:
    """A layer without draws unless ``settings`` ask for them: the second expert is the second best."""
    settings = {"second_expert": "argmax", "seed": 3} | settings
    layer = StratifiedMoE(d_model, d_ffn, strata, top_k, **settings).to(dtype)
    add_noise(layer, noise, steps=9)
    return layer


def change_settings(layer: StratifiedMoE, **changes: Any) -> None:
    """Gives a layer other settings, of those that need no other parameters."""
    layer.block = layer.block.model_copy(update=changes)
    for mixture in layer.mixtures:
        mixture.block = mixture.router.block = layer.block


class Twins:
    """A layer and the loop that was told the same, both with the layer's weights.

    Args:
        d_model: width D.
        d_ffn: inner width F.
        strata: experts per stratum.
        top_k: experts per token and stratum.
        **settings: of the layer.
    """

    def __init__(self, d_model: int, d_ffn: int, strata: Sequence[int], top_k: int = 2, **settings: Any) -> None:
        settings = {"second_expert": "argmax"} | settings
        self.layer = noisy_layer(d_model, d_ffn, strata, top_k, **settings)
        told = {name: value for name, value in settings.items() if name not in HOW}
        self.settings = Settings(strata=strata, top_k=top_k, **told)

    def loop(self, x_ND: Tensor, padding_N: Sequence[bool]) -> NaiveResult:
        """The loop's result, in training if the layer is."""
        return loop_of(self.layer, self.settings, x_ND, padding_N)


def loop_of(
    layer: StratifiedMoE,
    settings: Settings,
    x_ND: Tensor,
    padding_N: Sequence[bool] | None = None,
    removed: Collection[int] = (),
) -> NaiveResult:
    """The loop over tokens with a layer's weights; gradients reach them."""
    weights = layer.state_dict(keep_vars=True)
    return naive_stratified_moe(weights, settings, x_ND, padding_N, training=layer.training, removed=removed)


def naive_slices(layer: StratifiedMoE, x_ND: Tensor) -> Tensor:
    """What a layer with H heads routes in place of x: slices [N H, D/H] of a row's projection by the split's matrix."""
    weights = layer.state_dict(keep_vars=True)
    width = x_ND.shape[1] // layer.block.heads
    slices = []
    for token in x_ND:
        centred = token - token.mean()
        normal = centred / torch.sqrt((centred**2).mean() + 1e-5)
        h = normal * weights["heads.norm.weight"] + weights["heads.norm.bias"]
        projected = weights["heads.split.weight"] @ h + weights["heads.split.bias"]
        slices += [projected[j * width : (j + 1) * width] for j in range(layer.block.heads)]
    return torch.stack(slices)
