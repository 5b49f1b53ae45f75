"""A translation model that is a few tables over the tokens so far and the source: cheap, and as sharp as wanted."""

from __future__ import annotations

import torch
from torch import Tensor

from smoe_ds.model.attention import KeyValue
from smoe_ds.model.layers import LayerCache
from smoe_ds.model.transformer import DecoderCache, Encoded
from smoe_ds.moe.stats import ModelStats


class MarkovModel:
    """Logits = row of the last token + mean row of the tokens so far + row of the source's first token.

    The source's row is kept as the memory of the one layer, and those of the tokens so far as its own keys, so that
    a search that mixes up rows, or keeps the wrong ones, gives other outputs.

    Args:
        seed: of the tables.
        vocab_size: V.
        sharpness: standard deviation of the logits.
    """

    def __init__(self, seed: int, vocab_size: int, sharpness: float) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.after, self.given, self.history = (
            sharpness * torch.randn(vocab_size, vocab_size, generator=generator, dtype=torch.float64) for _ in range(3)
        )

    def encode(self, src: Tensor, *, start: Tensor | None = None) -> Encoded:
        """The source's row of the table as memory [B, 1, V]."""
        return Encoded(self.given[src[:, 0]].unsqueeze(1), (src == 0)[:, :1], src[:, 0], ModelStats())

    def start_decoding(self, encoded: Encoded) -> DecoderCache:
        """A cache of one layer."""
        memory = encoded.memory.unsqueeze(1)
        return DecoderCache([LayerCache(KeyValue(memory, memory))], encoded.padding_mask, encoded.first)

    def decode_step(self, tokens: Tensor, cache: DecoderCache) -> Tensor:
        """[R] -> [R, V]."""
        layer = cache.layers[0]
        new = self.history[tokens].view(len(tokens), 1, 1, -1)
        own, given = layer.own.append(KeyValue(new, new)).key, layer.memory.key[:, 0, 0]
        return self.after[tokens] + given.repeat_interleave(len(tokens) // len(given), dim=0) + own.mean(dim=2)[:, 0]

    def log_probs(self, source: list[int], prefix: tuple[int, ...]) -> list[float]:
        """The same, after ``prefix`` (start token first), without a cache."""
        logits = self.after[prefix[-1]] + self.given[source[0]] + self.history[list(prefix)].mean(dim=0)
        values: list[float] = torch.log_softmax(logits, dim=0).tolist()
        return values
