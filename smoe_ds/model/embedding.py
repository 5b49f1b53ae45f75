"""Token embedding shared by source, target and output, with sinusoidal positions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoe_ds.moe.seeding import uniform_


def sinusoidal_positions(max_positions: int, d_model: int) -> Tensor:
    """[max_positions, D]: sines in the first half of the width, cosines in the second (Vaswani et al., 2017, 3.5)."""
    half = d_model // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float64) * -(math.log(10000.0) / max(half - 1, 1)))
    angles = torch.arange(max_positions, dtype=torch.float64).unsqueeze(1) * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


class SharedEmbedding(nn.Module):
    """One V x D matrix that embeds both sides and projects to the vocabulary."""

    positions: Tensor

    def __init__(self, vocab_size: int, d_model: int, max_positions: int, pad_id: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, d_model))
        self.scale = math.sqrt(d_model)
        self.pad_id = pad_id
        self.register_buffer("positions", sinusoidal_positions(max_positions, d_model), persistent=False)

    def initialize(self, *name: object) -> None:
        """Zero mean and variance 1 / D, so that scaled embeddings have unit variance; the padding row is zero."""
        uniform_(self.weight, math.sqrt(3.0) / self.scale, *name)
        with torch.no_grad():
            self.weight[self.pad_id].zero_()

    def forward(self, token_ids: Tensor, start: int = 0) -> Tensor:
        """[B, T] token ids at positions ``start ...`` -> [B, T, D]."""
        embedded = F.embedding(token_ids, self.weight, padding_idx=self.pad_id) * self.scale
        return embedded + self.positions[start : start + token_ids.shape[1]].to(embedded.dtype)

    def project(self, x: Tensor) -> Tensor:
        """[..., D] -> vocabulary logits [..., V]."""
        return F.linear(x, self.weight)
