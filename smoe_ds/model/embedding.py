"""Token embedding shared by source, target and output, with sinusoidal positions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoe_ds.config.model import ModelConfig
from smoe_ds.moe.seeding import uniform_


def sinusoidal_positions(max_positions: int, d_model: int, offset: int = 0) -> Tensor:
    """[max_positions, D]: sines in the first half of the width, cosines in the second (Vaswani et al., 2017, 3.5).

    Args:
        max_positions: rows.
        d_model: D.
        offset: number of the first position.
    """
    half = d_model // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float64) * -(math.log(10000.0) / max(half - 1, 1)))
    angles = torch.arange(offset, offset + max_positions, dtype=torch.float64).unsqueeze(1) * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


class SharedEmbedding(nn.Module):
    """One V x D matrix that embeds both sides and projects to the vocabulary.

    Args:
        vocab_size: V.
        config: width, positions, scale.
        pad_id: id of padding.
    """

    positions: Tensor

    def __init__(self, vocab_size: int, config: ModelConfig, pad_id: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, config.d_model))
        self.scale = math.sqrt(config.d_model) if config.scale_embedding else 1.0
        self.pad_id = pad_id
        table = sinusoidal_positions(config.max_positions, config.d_model, config.position_offset)
        self.register_buffer("positions", table, persistent=False)

    def initialize(self, *name: object) -> None:
        """Zero mean and variance 1 / D, so that scaled embeddings have unit variance; the padding row is zero."""
        uniform_(self.weight, math.sqrt(3.0) / math.sqrt(self.weight.shape[1]), *name)
        with torch.no_grad():
            self.weight[self.pad_id].zero_()

    def forward(self, token_ids: Tensor, start: int = 0) -> Tensor:
        """[B, T] token ids at positions ``start ...`` -> [B, T, D]."""
        embedded = self.rows(token_ids) * self.scale
        return embedded + self.positions[start : start + token_ids.shape[1]].to(embedded.dtype)

    def rows(self, token_ids: Tensor) -> Tensor:
        """The matrix's rows of [B, T] token ids [B, T, D]."""
        return F.embedding(token_ids, self.weight, padding_idx=self.pad_id)

    def project(self, x: Tensor) -> Tensor:
        """[..., D] -> vocabulary logits [..., V]."""
        return F.linear(x, self.weight)
