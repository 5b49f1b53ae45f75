"""One encoder layer and one decoder layer, pre-norm."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from smoe_ds.config.model import ModelConfig
from smoe_ds.model.attention import Attention, KeyValue
from smoe_ds.moe.stats import BlockStats


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward or stratified block.

    Args:
        config: widths and dropout.
        ffn: sub-layer ``(x, padding_mask, num_tokens) -> (x, stats)`` with its own norm and residual.
    """

    def __init__(self, config: ModelConfig, ffn: nn.Module) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.self_norm = nn.LayerNorm(config.d_model)
        self.self_attention = Attention(config.d_model, config.num_heads, config.attention_dropout)
        self.ffn = ffn

    def forward(
        self, x: Tensor, mask: Tensor, padding_mask: Tensor, num_tokens: int | None
    ) -> tuple[Tensor, BlockStats | None]:
        """[B, S, D] -> [B, S, D]."""
        h = self.self_norm(x)
        attended = self.self_attention(h, self.self_attention.keys_and_values(h), mask)
        return self.ffn(x + F.dropout(attended, self.dropout, self.training), padding_mask, num_tokens)


@dataclass
class LayerCache:
    """What one decoder layer keeps between steps: its own keys and values so far, and those of the source."""

    own: KeyValue | None
    memory: KeyValue

    def select(self, index: Tensor) -> LayerCache:
        """Rows ``index`` of the batch."""
        return LayerCache(self.own.select(index) if self.own else None, self.memory.select(index))


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the source, then feed-forward or stratified block."""

    def __init__(self, config: ModelConfig, ffn: nn.Module) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.self_norm = nn.LayerNorm(config.d_model)
        self.self_attention = Attention(config.d_model, config.num_heads, config.attention_dropout)
        self.cross_norm = nn.LayerNorm(config.d_model)
        self.cross_attention = Attention(config.d_model, config.num_heads, config.attention_dropout)
        self.ffn = ffn

    def forward(
        self, x: Tensor, memory: Tensor, memory_mask: Tensor, padding_mask: Tensor, num_tokens: int | None
    ) -> tuple[Tensor, BlockStats | None]:
        """Whole targets at once: [B, T, D], source [B, S, D] -> [B, T, D]."""
        h = self.self_norm(x)
        x = self._add(x, self.self_attention(h, self.self_attention.keys_and_values(h), causal=True))
        source = self.cross_attention.keys_and_values(memory)
        x = self._add(x, self.cross_attention(self.cross_norm(x), source, memory_mask))
        return self.ffn(x, padding_mask, num_tokens)

    def step(self, x: Tensor, cache: LayerCache, memory_mask: Tensor) -> Tensor:
        """The next position only: [B, 1, D] -> [B, 1, D]; extends ``cache``."""
        h = self.self_norm(x)
        new = self.self_attention.keys_and_values(h)
        if cache.own is None:
            cache.own = new
        else:
            cache.own.append(new.key, new.value)
        x = self._add(x, self.self_attention(h, cache.own))
        x = self._add(x, self.cross_attention(self.cross_norm(x), cache.memory, memory_mask))
        return self.ffn(x)[0]

    def _add(self, x: Tensor, sublayer: Tensor) -> Tensor:
        return x + F.dropout(sublayer, self.dropout, self.training)
