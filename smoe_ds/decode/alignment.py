"""Which source token an output token comes from, as the attention to the source tells it."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from smoe_ds.model.attention import KeyValue
from smoe_ds.model.layers import DecoderLayer
from smoe_ds.model.transformer import Transformer


@torch.inference_mode()
def mean_cross_attention(model: Transformer, src: Tensor, tgt_in: Tensor) -> Tensor:
    """The last decoder layer's attention to the source by forced decoding, mean over heads.

    Args:
        model: in evaluation mode.
        src: source token ids [B, S], padded on the right with 0.
        tgt_in: decoder input [B, T].

    Returns:
        [B, T, S], float32 or wider; row t belongs to the token that follows ``tgt_in[:, t]``. Rows sum to 1.
    """
    attention = cast(DecoderLayer, model.decoder.layers[-1]).cross_attention
    seen: list[Tensor] = []

    def look(_: nn.Module, arguments: tuple[Tensor, KeyValue, Tensor]) -> None:
        seen.append(attention.weights(*arguments[:3]).mean(dim=1))

    handle = attention.register_forward_pre_hook(look)
    try:
        model(src, tgt_in)
    finally:
        handle.remove()
    return seen[0]
