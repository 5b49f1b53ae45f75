"""One encoder layer and one decoder layer, pre-norm."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, nn

from smoe_ds.config.model import ModelConfig
from smoe_ds.model.attention import Attention, GrowingKeyValue, KeyValue
from smoe_ds.model.feed_forward import Positions
from smoe_ds.model.language_capacity import LanguageGate, Languages, language_gate
from smoe_ds.moe.stats import BlockStats


class _Layer(nn.Module):
    """What both kinds have: self-attention, a feed-forward sub-layer, and gates of languages if there are any.

    Args:
        config: widths and dropout.
        ffn: sub-layer ``(x, *positions) -> (x, stats)`` with its own norm and residual.
        cross: whether there is attention to the source; it is registered before ``ffn``, since the optimizer keeps
            parameters in that order.
    """

    def __init__(self, config: ModelConfig, ffn: nn.Module, *, cross: bool = False) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.self_norm = nn.LayerNorm(config.d_model, config.norm_epsilon)
        self.self_attention = Attention(config.d_model, config.num_heads, config.attention_dropout)
        if cross:
            self.cross_norm = nn.LayerNorm(config.d_model, config.norm_epsilon)
            self.cross_attention = Attention(config.d_model, config.num_heads, config.attention_dropout)
        self.ffn = ffn
        self.self_language = language_gate(config.language_capacity, config.d_model, own=False)
        self.ffn_language = language_gate(config.language_capacity, config.d_model, own=True)

    def _attend(
        self,
        x: Tensor,
        h: Tensor,
        attention: Attention,
        memory: KeyValue,
        gate: LanguageGate | None,
        languages: Languages | None,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """x with attention from its norm ``h`` to ``memory`` added."""
        if gate is None or languages is None:
            attended = attention(h, memory, mask, causal)
        else:
            attended = gate(x, attention(h, memory, mask, causal, project=False), languages, attention.out)
        return x + F.dropout(attended, self.dropout, self.training)

    def _feed_forward(
        self, x: Tensor, positions: Positions, languages: Languages | None
    ) -> tuple[Tensor, BlockStats | None]:
        """The feed-forward sub-layer; a gate works on what it adds to x."""
        y, stats = self.ffn(x, *positions)
        if self.ffn_language is None or languages is None:
            return y, stats
        return x + self.ffn_language(x, y - x, languages), stats


class EncoderLayer(_Layer):
    """Self-attention, then feed-forward or stratified block; arguments as of ``_Layer``."""

    def forward(
        self, x: Tensor, mask: Tensor, positions: Positions, languages: Languages | None = None
    ) -> tuple[Tensor, BlockStats | None]:
        """[B, S, D] -> [B, S, D]."""
        h = self.self_norm(x)
        memory = self.self_attention.keys_and_values(h)
        x = self._attend(x, h, self.self_attention, memory, self.self_language, languages, mask)
        return self._feed_forward(x, positions, languages)


@dataclass
class LayerCache:
    """What one decoder layer keeps between steps: its own keys and values so far, and those of the sources."""

    memory: KeyValue
    own: GrowingKeyValue = field(default_factory=GrowingKeyValue)

    def reorder(self, rows: Tensor, sources: Tensor | None) -> None:
        """See `smoe_ds.model.transformer.DecoderCache.reorder`."""
        self.own.keep(rows)
        if sources is not None:
            self.memory = self.memory.select(sources)


class DecoderLayer(_Layer):
    """Causal self-attention, attention to the source, then feed-forward or stratified block; arguments as of
    ``_Layer``."""

    def __init__(self, config: ModelConfig, ffn: nn.Module) -> None:
        super().__init__(config, ffn, cross=True)
        self.cross_language = language_gate(config.language_capacity, config.d_model, own=False)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        memory_mask: Tensor,
        positions: Positions,
        languages: Languages | None = None,
    ) -> tuple[Tensor, BlockStats | None]:
        """Whole targets at once: [B, T, D], source [B, S, D] -> [B, T, D]."""
        h = self.self_norm(x)
        own = self.self_attention.keys_and_values(h)
        x = self._attend(x, h, self.self_attention, own, self.self_language, languages, causal=True)
        source = self.cross_attention.keys_and_values(memory)
        x = self._to_source(x, source, memory_mask, languages)
        return self._feed_forward(x, positions, languages)

    def step(
        self,
        x: Tensor,
        cache: LayerCache,
        memory_mask: Tensor,
        positions: Positions,
        languages: Languages | None = None,
    ) -> Tensor:
        """The next position only: [B, 1, D] -> [B, 1, D]; extends ``cache``."""
        h = self.self_norm(x)
        own = cache.own.append(self.self_attention.keys_and_values(h))
        x = self._attend(x, h, self.self_attention, own, self.self_language, languages)
        x = self._to_source(x, cache.memory, memory_mask, languages)
        return self._feed_forward(x, positions, languages)[0]

    def _to_source(self, x: Tensor, source: KeyValue, mask: Tensor, languages: Languages | None) -> Tensor:
        return self._attend(x, self.cross_norm(x), self.cross_attention, source, self.cross_language, languages, mask)
