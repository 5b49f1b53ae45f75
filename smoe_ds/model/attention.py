"""Multi-head attention on torch's fused kernel, with a cache for decoding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoe_ds.moe.seeding import uniform_, xavier_bound


@dataclass
class KeyValue:
    """Keys and values of one attention [B, H, S, D/H]."""

    key: Tensor
    value: Tensor

    def append(self, key: Tensor, value: Tensor) -> None:
        """Add keys and values of the next position(s)."""
        self.key = torch.cat([self.key, key], dim=2)
        self.value = torch.cat([self.value, value], dim=2)

    def select(self, index: Tensor) -> KeyValue:
        """Rows ``index`` of the batch."""
        return KeyValue(self.key.index_select(0, index), self.value.index_select(0, index))


def attention_mask(padding_mask_BS: Tensor) -> Tensor:
    """Mask for scaled_dot_product_attention [B, 1, 1, S], True where a position may be attended to.

    Position 0 always may: a sentence that is all padding would otherwise give a softmax over nothing, which is NaN.
    Sentences are padded on the right, so that no real sentence is affected.
    """
    attend = ~padding_mask_BS
    attend[:, 0] = True
    return attend[:, None, None, :]


class Attention(nn.Module):
    """Projections and scaled dot-product attention; one module serves self- and cross-attention."""

    def __init__(self, d_model: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(d_model, d_model)
        self.key_value = nn.Linear(d_model, 2 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def initialize(self, *name: object) -> None:
        """Xavier; inputs' projections as for one [3D, D] matrix. Biases zero."""
        d_model = self.out.in_features
        uniform_(self.query.weight, xavier_bound(d_model, 3 * d_model), *name, "query")
        uniform_(self.key_value.weight, xavier_bound(d_model, 3 * d_model), *name, "key_value")
        uniform_(self.out.weight, xavier_bound(d_model, d_model), *name, "out")
        for linear in (self.query, self.key_value, self.out):
            nn.init.zeros_(linear.bias)

    def keys_and_values(self, x: Tensor) -> KeyValue:
        """Project [B, S, D] to keys and values."""
        key, value = self.key_value(x).chunk(2, dim=-1)
        return KeyValue(self._split_heads(key), self._split_heads(value))

    def forward(self, x: Tensor, memory: KeyValue, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """Attend from [B, T, D] to ``memory``; returns [B, T, D].

        Args:
            x: queries' input.
            memory: keys and values.
            mask: True where attention is allowed, broadcastable to [B, H, T, S].
            causal: position t sees keys 0 .. t only.
        """
        attended = F.scaled_dot_product_attention(
            self._split_heads(self.query(x)),
            memory.key,
            memory.value,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
        )
        return self.out(attended.transpose(1, 2).reshape(x.shape))

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)
