"""``smoe``: everything of ours in a run file."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from smoe_ds.config.data import DataConfig
from smoe_ds.config.decode import DecodeConfig
from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.config.section import Section
from smoe_ds.config.train import TrainConfig


class SmoeConfig(Section):
    """The section ``"smoe"``: model, experts, data, training, decoding."""

    model: ModelConfig = Field(default_factory=lambda: ModelConfig(), description="The transformer.")
    moe: MoeConfig = Field(default_factory=lambda: MoeConfig(), description="The stratified blocks.")
    data: DataConfig = Field(description="The prepared corpus: at least its path.")
    train: TrainConfig = Field(description="The run: at least its output_dir.")
    decode: DecodeConfig = Field(default_factory=lambda: DecodeConfig(), description="Beam search.")

    def rules(self) -> Iterator[tuple[str, str]]:
        layers = max(self.model.encoder_layers, self.model.decoder_layers)
        if not self.moe.is_dense and self.moe.every > layers:
            yield (
                "moe.every",
                f"every {self.moe.every}th layer of at most {layers} has experts, so none does; "
                f"choose {layers} or less, or strata [] for a dense model",
            )
