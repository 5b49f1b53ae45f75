"""``smoe.model``: the encoder-decoder transformer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from smoe_ds.config.language_capacity import LanguageCapacity
from smoe_ds.config.section import Section

MOST_LAYERS = 1000
"""Of an encoder or decoder."""

MOST_POSITIONS = 1 << 17
"""Of a sentence; every model has a table of them, [positions, D]."""


class ModelConfig(Section):
    """Sizes and regularisation of the transformer. Defaults are the M4 recipe."""

    d_model: int = Field(default=512, gt=0, description="Width D of embeddings and residual stream.")
    d_ffn: int = Field(default=2048, gt=0, description="Inner width F of a feed-forward network and of an expert.")
    num_heads: int = Field(default=8, gt=0, description="Attention heads H; must divide d_model.")
    encoder_layers: int = Field(
        default=6, gt=0, le=MOST_LAYERS, description="Encoder layers; smoe.moe.every says which have experts."
    )
    decoder_layers: int = Field(
        default=6, gt=0, le=MOST_LAYERS, description="Decoder layers; smoe.moe.every says which have experts."
    )
    activation: Literal["relu", "gelu", "swiglu"] = Field(
        default="relu",
        description="Non-linearity of feed-forward networks and experts. swiglu has a third matrix, so half as many "
        "parameters again at the same d_ffn.",
    )
    ffn_init: Literal["xavier", "linear", "switch", "zero"] = Field(
        default="zero", description="How dense feed-forward networks start; names as for smoe.moe.expert_init."
    )
    dropout: float = Field(
        default=0.3, ge=0, lt=1, description="Dropout on embeddings, sub-layer outputs and expert outputs."
    )
    attention_dropout: float = Field(default=0.1, ge=0, lt=1, description="Dropout on attention probabilities.")
    max_positions: int = Field(
        default=512,
        gt=2,
        le=MOST_POSITIONS,
        description="Longest source or target in tokens, special tokens included.",
    )
    position_offset: int = Field(
        default=0,
        ge=0,
        description="Number of the first position in the sinusoidal table; M2M100 and NLLB count from 2.",
    )
    scale_embedding: bool = Field(
        default=True, description="Multiply embeddings by sqrt(d_model) before positions are added."
    )
    norm_epsilon: float = Field(
        default=1e-5, gt=0, lt=1, description="Added to the variance in every LayerNorm that has weights."
    )
    language_capacity: LanguageCapacity = Field(
        default_factory=lambda: LanguageCapacity(), description="Parts that a language has for itself (CLSR)."
    )

    def rules(self) -> Iterator[tuple[str, str]]:
        if self.d_model % self.num_heads:
            divisors = [n for n in range(1, 65) if self.d_model % n == 0]
            yield "num_heads", f"{self.num_heads} does not divide d_model {self.d_model}; choose one of {divisors}"
        if self.d_model % 2:
            yield "d_model", f"{self.d_model} is odd, but sinusoidal positions come in pairs; choose an even width"
