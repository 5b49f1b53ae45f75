"""Starts a mixture of experts from a dense model: every expert of a block a copy of the dense feed-forward network.

Norms are copied to every stratum, the shared expert is a copy too; gates are fresh. With weights that add up to 1
(top_k above 1, ``combine_weights`` not ``raw``) each pass then computes what the dense layer does, which is
``x + FFN(LayerNorm(x))``: a single stratum is the dense model to rounding, and in several strata a token passes that
layer as often as it is routed.

Source: sparse upcycling, arXiv 2212.05055.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from smoe_ds.checkpoints.weights_reader import misfit
from smoe_ds.engine.state import persistent_buffers
from smoe_ds.errors import CheckpointError
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.moe.seeding import derive_seed

_EXPERT = re.compile(r"experts\.\d+\.(\w+)")
_FROM_DENSE = {
    _EXPERT: r"ffn.\1",
    re.compile(r"shared\.(\w+)"): r"ffn.\1",
    re.compile(r"norms\.\d+\.(\w+)"): r"norm.\1",
}
"""Name inside a stratified block, and that of its source inside the dense layer."""


def dense_name(inner: str) -> str | None:
    """The parameter of a dense layer that becomes a block's parameter ``inner``; None if that one stays fresh."""
    for pattern, source in _FROM_DENSE.items():
        if match := pattern.fullmatch(inner):
            return match.expand(source)
    return None


def upcycle(
    dense: Mapping[str, Tensor], model: Transformer, *, noise: float, seed: int, source: Path
) -> dict[str, Tensor]:
    """The weights of a model with experts.

    Args:
        dense: weights of the dense model by name, fp32.
        model: the model with experts, with fresh weights.
        noise: standard deviation of what is added to the experts, in standard deviations of the weight it is added to;
            0 leaves them equal, so that the gates alone tell them apart.
        seed: of the noise.
        source: of the dense weights, for messages.

    Raises:
        CheckpointError: the dense weights are not those of this model's dense twin.
    """
    fresh = {**dict(model.named_parameters()), **persistent_buffers(model)}
    blocks = [name for name, module in model.named_modules() if isinstance(module, StratifiedMoE)]
    result: dict[str, Tensor] = {}
    expected: dict[str, tuple[int, ...]] = {}
    for name, value in fresh.items():
        block = next((block for block in blocks if name.startswith(f"{block}.")), None)
        inner = None if block is None else name[len(block) + 1 :]
        origin = name if inner is None else dense_name(inner)
        if origin is None:
            result[name] = value.detach().to(torch.float32)
            continue
        origin = origin if block is None else f"{block}.{origin}"
        expected[origin] = tuple(value.shape)
        if origin in dense and dense[origin].shape == value.shape:
            noisy = noise if inner is not None and _EXPERT.fullmatch(inner) else 0.0
            result[name] = _with_noise(dense[origin], noisy, seed, name)
    if problem := misfit(expected, {name: tuple(weight.shape) for name, weight in dense.items()}):
        raise CheckpointError(
            f"{source}: is not the dense twin of the model asked for: {problem}; its smoe.model must be the same"
        )
    return result


def _with_noise(weight: Tensor, noise: float, seed: int, name: str) -> Tensor:
    if not noise:
        return weight.clone()
    generator = torch.Generator().manual_seed(derive_seed(seed, "upcycle", name))
    return weight + noise * weight.std(correction=0) * torch.randn(weight.shape, generator=generator)
