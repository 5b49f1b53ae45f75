"""Small random translation models whose outputs are far from uniform, and random sources for them."""

from __future__ import annotations

import random

import torch

from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.model.transformer import Transformer

MODEL = ModelConfig(
    d_model=16,
    d_ffn=24,
    num_heads=4,
    encoder_layers=2,
    decoder_layers=2,
    dropout=0.0,
    attention_dropout=0.0,
    max_positions=64,
)


def random_model(
    seed: int,
    strata: list[int],
    vocab_size: int,
    *,
    config: ModelConfig = MODEL,
    noise: float = 0.3,
    dtype: torch.dtype = torch.float64,
) -> Transformer:
    """A model in evaluation mode; ``noise`` is added to every weight so that routing and outputs are peaked."""
    model = Transformer(config, MoeConfig(strata=strata), vocab_size, seed=seed).to(dtype).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += noise * torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(dtype)
    return model


def random_sources(seed: int, num: int, longest: int, first: int, vocab_size: int) -> list[list[int]]:
    """Sentences of 1 .. ``longest`` tokens from ``first`` up, each ended by token 2."""
    draw = random.Random(seed)
    return [[draw.randrange(first, vocab_size) for _ in range(draw.randint(1, longest))] + [2] for _ in range(num)]


def padded(rows: list[list[int]]) -> torch.Tensor:
    """[B, longest], padded on the right with 0."""
    width = max(map(len, rows))
    return torch.tensor([row + [0] * (width - len(row)) for row in rows])
