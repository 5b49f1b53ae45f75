"""Starts a mixture of experts from a dense model.

``copy``: every expert of a block is a copy of the dense feed-forward network (sparse upcycling, arXiv 2212.05055). The
same goes for experts that are chains of tensors: the dense matrices are factored once, and every expert starts with the
same outer tensors (arXiv 2203.01104). ``adapters``: the network that the experts share is the dense one, and their
adapters start as they always do, adding nothing (arXiv 2401.02731).

Norms are copied to every stratum, a shared expert is a copy too; gates are fresh. With weights that add up to 1 (top_k
above 1, ``combine_weights`` not ``raw``) each pass then computes what the dense layer does, which is
``x + FFN(LayerNorm(x))``: a single stratum is the dense model to rounding, and in several strata a token passes that
layer as often as it is routed; :mod:`smoe_ds.weights.preserve` changes that. A smaller ``bond`` of the chains makes it
an approximation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from smoe_ds.checkpoints.weights_reader import misfit
from smoe_ds.config.block import BlockSettings
from smoe_ds.engine.state import persistent_buffers
from smoe_ds.errors import CheckpointError
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe.chain_shapes import CENTRE, ChainShape
from smoe_ds.moe.experts_mpo import ChainCommon
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.moe.matrix_chain import factor
from smoe_ds.moe.seeding import derive_seed

Method = Literal["preserve", "copy", "adapters"]
METHODS_OF: dict[str, tuple[Method, ...]] = {
    "ffn": ("preserve", "copy"),
    "mpo": ("preserve", "copy"),
    "adapters": ("adapters",),
}
"""The methods that make each kind of experts, the default first."""

_EXPERT = re.compile(r"experts\.\d+\.(\w+)")
_CHAIN = re.compile(r"(?:experts\.\d+|common)\.(w\d)(?:_(\d))?")
_FROM_DENSE = {
    re.compile(r"(?:shared|common)\.(\w+)"): r"ffn.\1",
    re.compile(r"norms\.\d+\.(\w+)"): r"norm.\1",
}
"""Name inside a block, and that of its source inside the dense layer."""


@dataclass(frozen=True)
class _Origin:
    """Where a parameter comes from.

    Attributes:
        name: in the dense model.
        shape: of it there.
        chain: of the matrix, where the parameter is one of its tensors.
        place: of that tensor.
    """

    name: str
    shape: tuple[int, ...]
    chain: ChainShape | None = None
    place: int = CENTRE


def kind_problem(blocks: Mapping[str, BlockSettings], method: Method) -> str | None:
    """Why a method cannot make the experts of some blocks, with the remedy; None if it can.

    Args:
        blocks: settings by the block's name.
        method: how the experts are made.
    """
    for name, block in blocks.items():
        kind = block.experts.kind
        if method not in METHODS_OF[kind]:
            return (
                f"smoe.moe.experts: {name} has experts of the kind {kind}, which --method {method} does not make; "
                f"use --method {METHODS_OF[kind][0]}"
            )
    return None


def upcycle(
    dense: Mapping[str, Tensor], model: Transformer, *, noise: float, seed: int, source: Path
) -> dict[str, Tensor]:
    """The weights of a model with experts, whichever kind these are.

    Args:
        dense: weights of the dense model by name, fp32.
        model: the model with experts, with fresh weights.
        noise: standard deviation of what is added to the experts, in standard deviations of the weight it is added to;
            0 leaves them equal, so that the gates alone tell them apart. Adapters are fresh and get none.
        seed: of the noise.
        source: of the dense weights, for messages.

    Raises:
        CheckpointError: the dense weights are not those of this model's dense twin, experts differ in width, or a block
            has heads.
    """
    fresh = {**dict(model.named_parameters()), **persistent_buffers(model)}
    blocks = {name: module for name, module in model.named_modules() if isinstance(module, StratifiedMoE)}
    if any(layer.block.uneven for layer in blocks.values()):
        raise CheckpointError(
            "smoe.moe.expert_widths: experts of different width cannot be copies of one dense network; leave it out"
        )
    if split := [name for name, layer in blocks.items() if layer.heads is not None]:
        raise CheckpointError(f"{split[0]}: experts of a block with heads are too narrow to be copies; set heads to 1")
    result: dict[str, Tensor] = {}
    expected: dict[str, tuple[int, ...]] = {}
    chains: dict[str, list[Tensor]] = {}
    for name, value in fresh.items():
        block = next((block for block in blocks if name.startswith(f"{block}.")), None)
        inner = "" if block is None else name[len(block) + 1 :]
        shape = tuple(value.shape)
        origin = _Origin(name, shape) if block is None else _origin(blocks[block], inner, shape)
        if origin is None:
            result[name] = value.detach().to(torch.float32)
            continue
        expected[origin.name] = origin.shape
        if origin.name in dense and tuple(dense[origin.name].shape) == origin.shape:
            weight = dense[origin.name]
            if origin.chain is not None:
                weight = _factored(chains, origin, weight)
            result[name] = _with_noise(weight, noise if _EXPERT.fullmatch(inner) else 0.0, seed, name)
    if problem := misfit(expected, {name: tuple(weight.shape) for name, weight in dense.items()}):
        raise CheckpointError(
            f"{source}: is not the dense twin of the model asked for: {problem}; its smoe.model must be the same"
        )
    return result


def _origin(block: StratifiedMoE, inner: str, shape: tuple[int, ...]) -> _Origin | None:
    """That of a block's parameter ``inner``; None if it stays fresh."""
    chain, common = _CHAIN.fullmatch(inner), block.common
    if chain and isinstance(common, ChainCommon):
        place = CENTRE if chain[2] is None else int(chain[2]) - 1
        size = common.sizes[chain[1][1:]]
        return _Origin(f"{block.name}.ffn.{chain[1]}", size, common.shapes[chain[1]], place)
    if match := _EXPERT.fullmatch(inner):
        return _Origin(f"{block.name}.ffn.{match[1]}", shape) if common is None else None
    for pattern, name in _FROM_DENSE.items():
        if match := pattern.fullmatch(inner):
            return _Origin(f"{block.name}.{match.expand(name)}", shape)
    return None


def _factored(chains: dict[str, list[Tensor]], origin: _Origin, weight: Tensor) -> Tensor:
    """One tensor of a matrix's chain; each matrix is factored once."""
    if origin.name not in chains:
        assert origin.chain is not None
        chains[origin.name] = factor(weight, origin.chain)
    return chains[origin.name][origin.place]


def _with_noise(weight: Tensor, noise: float, seed: int, name: str) -> Tensor:
    if not noise:
        return weight.clone()
    generator = torch.Generator().manual_seed(derive_seed(seed, "upcycle", name))
    return weight + noise * weight.std(correction=0) * torch.randn(weight.shape, generator=generator)
