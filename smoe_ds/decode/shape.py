"""The names and shapes of a run's model, without its numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from smoe_ds.config.smoe import SmoeConfig
from smoe_ds.engine.state import persistent_buffers
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe.layer import StratifiedMoE


@dataclass(frozen=True)
class ModelShape:
    """What a checkpoint of a model holds.

    Attributes:
        shapes: shape of every parameter and persistent buffer by logical name.
        buffers: names of the persistent buffers, which count in whole numbers.
        blocks: names of the stratified blocks, in the order of their statistics.
    """

    shapes: dict[str, tuple[int, ...]]
    buffers: tuple[str, ...]
    blocks: tuple[str, ...]


def model_shape(smoe: SmoeConfig, vocab_size: int) -> ModelShape:
    """The shape of the run's whole model; no memory is taken for weights."""
    with torch.device("meta"):
        model = Transformer(smoe.model, smoe.moe, vocab_size)
    buffers = persistent_buffers(model)
    held = {**dict(model.named_parameters()), **buffers}
    blocks = [name for name, module in model.named_modules() if isinstance(module, StratifiedMoE)]
    return ModelShape({name: tuple(tensor.shape) for name, tensor in held.items()}, tuple(buffers), tuple(blocks))
