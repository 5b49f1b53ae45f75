"""A model whose linear layers are packed, to decode with on the processor."""

from __future__ import annotations

import ctypes
from typing import cast

import torch
from torch import Tensor, nn

from smoe_ds.decode.packed_linear import PACKED, PackedLinear
from smoe_ds.model.attention import Attention
from smoe_ds.model.embedding import SharedEmbedding
from smoe_ds.model.feed_forward import DenseFeedForward
from smoe_ds.model.language_capacity import LanguageGate
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe.common import Experts, SharedPart
from smoe_ds.moe.experts import ExpertFFN, ReadyFFN, activated
from smoe_ds.moe.heads import Heads
from smoe_ds.moe.layer import StratifiedMoE

_LINEARS = {Attention: ("query", "key_value", "out"), Heads: ("split", "merge"), LanguageGate: ("common",)}
"""Layers that are packed. Gates are not: they choose, and a choice should not hang on rounding."""


@torch.no_grad()
def pack_model(model: Transformer, numbers: str) -> None:
    """Packs attention, feed-forward networks, experts and the projection to the vocabulary, in place.

    The model then computes on the processor alone, without gradient, and has no such parameters any more. Norms, gates
    and attention itself stay in float32, as do all results.

    Args:
        model: in float32 on the processor; ``expert_backend`` auto or loop.
        numbers: a key of :data:`smoe_ds.decode.packed_linear.PACKED`.
    """
    linear = PACKED[numbers]
    parents = (*_LINEARS, DenseFeedForward, StratifiedMoE)
    for module in [
        one for one in model.modules() if isinstance(one, parents)
    ]:  # not weights: they go as they are packed
        for kind, names in _LINEARS.items():
            for name in names if isinstance(module, kind) else ():
                if (layer := getattr(module, name)) is not None:
                    setattr(module, name, linear(layer.weight, layer.bias))
        if isinstance(module, DenseFeedForward):
            module.ffn = PackedFFN(module.ffn, linear)  # type: ignore[assignment]
        if isinstance(module, StratifiedMoE):
            _pack_experts(module, linear)
    model.embedding = PackedEmbedding(model.embedding, linear)
    _give_memory_back()


def _give_memory_back() -> None:
    """Freed weights go back to the system at once; glibc would keep them for later."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _pack_experts(block: StratifiedMoE, linear: type[PackedLinear]) -> None:
    """Experts made of other parameters are put together first. Adapters are small and stay; the network that they share
    is packed."""
    common = block.common
    experts: Experts = block.experts
    if isinstance(common, ExpertFFN):
        block.common = _PackedCommon(common, linear)
    elif common is not None:
        experts, block.common = common.ready(block.experts), None
    for name in list(experts):
        expert = experts[name]
        if isinstance(expert, ExpertFFN | ReadyFFN):
            block.experts[name] = PackedFFN(expert, linear)
    if isinstance(block.shared, ExpertFFN):
        block.shared = PackedFFN(block.shared, linear)


class PackedFFN(nn.Module):
    """An expert, or the dense feed-forward network.

    Args:
        ffn: whose weights are packed.
        linear: how.
    """

    def __init__(self, ffn: ExpertFFN | ReadyFFN, linear: type[PackedLinear]) -> None:
        super().__init__()
        self.activation = ffn.activation
        self.first, self.second = linear(ffn.w1, ffn.b1), linear(ffn.w2, ffn.b2)
        self.gate = None if ffn.activation != "swiglu" else linear(cast(Tensor, ffn.w3), ffn.b3)

    def forward(self, x: Tensor) -> Tensor:
        """[R, D] -> [R, D]."""
        if self.activation == "relu":
            hidden = self.first(x, relu=True)
        else:
            hidden = activated(self.activation, self.first(x), None if self.gate is None else self.gate(x))
        y: Tensor = self.second(hidden)
        return y


class _PackedCommon(SharedPart):
    """The feed-forward network that adapters read."""

    def __init__(self, common: ExpertFFN, linear: type[PackedLinear]) -> None:
        super().__init__()
        self.ffn = PackedFFN(common, linear)

    def inputs(self, h_TD: Tensor) -> Tensor:
        y: Tensor = self.ffn(h_TD)
        return y


class PackedEmbedding(SharedEmbedding):
    """The shared matrix twice: packed for the vocabulary's logits, and row by row for the embedding.

    Args:
        embedding: whose weight it is.
        linear: how it is packed; in int8 the rows are kept in int8 too, with the same scales.
    """

    def __init__(self, embedding: SharedEmbedding, linear: type[PackedLinear]) -> None:
        nn.Module.__init__(self)
        self.scale, self.pad_id = embedding.scale, embedding.pad_id
        self.register_buffer("positions", embedding.positions, persistent=False)
        self.table = linear.table(embedding.weight)
        self.output = linear(embedding.weight, None)

    def rows(self, token_ids: Tensor) -> Tensor:
        found: Tensor = self.table(token_ids)
        return found

    def project(self, x: Tensor) -> Tensor:
        logits: Tensor = self.output(x)
        return logits
