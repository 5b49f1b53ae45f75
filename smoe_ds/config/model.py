"""``smoe.model``: the encoder-decoder transformer."""

from __future__ import annotations

from pydantic import Field, model_validator

from smoe_ds.config.section import Section


class ModelConfig(Section):
    """Sizes and regularisation of the transformer. Defaults are the M4 recipe."""

    d_model: int = Field(512, gt=0, description="Width D of embeddings and residual stream.")
    d_ffn: int = Field(2048, gt=0, description="Inner width F of a feed-forward network and of an expert.")
    num_heads: int = Field(8, gt=0, description="Attention heads H; must divide d_model.")
    encoder_layers: int = Field(6, gt=0, description="Encoder layers.")
    decoder_layers: int = Field(6, gt=0, description="Decoder layers.")
    dropout: float = Field(0.3, ge=0, lt=1, description="Dropout on embeddings, sub-layer outputs and expert outputs.")
    attention_dropout: float = Field(0.1, ge=0, lt=1, description="Dropout on attention probabilities.")
    max_positions: int = Field(512, gt=2, description="Longest source or target, in tokens, special tokens included.")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> ModelConfig:
        if self.d_model % self.num_heads:
            raise ValueError(
                f"num_heads {self.num_heads} does not divide d_model {self.d_model}; choose a divisor of {self.d_model}"
            )
        if self.d_model % 2:
            raise ValueError(f"d_model {self.d_model} is odd; sinusoidal positions need an even width")
        return self
