"""The feed-forward sub-layer of a layer: dense, or a stratified block; both with norm and residual inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.model import ModelConfig
from smoe_ds.moe.experts import ExpertFFN
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.moe.stats import BlockStats

MoeFactory = Callable[[str, BlockSettings], StratifiedMoE]
"""Builds the block of a name."""


class Positions(NamedTuple):
    """What a sub-layer is told of the positions of a batch.

    Attributes:
        padding_mask: True where a position is padding [B, S]; None if none is.
        num_tokens: positions that are no padding; None if nobody counted them.
        token_ids: vocabulary ids of the input [B, S].
        language: id of the first token of each sentence [B]: the target language's, where the run puts it there.
        pair: ids of the first tokens of source and decoder input [B, 2]: their languages', where the run puts them
            there; None if the decoder's is not known.
        stats: whether anybody wants to know what a block's routing did.
    """

    padding_mask: Tensor | None = None
    num_tokens: int | None = None
    token_ids: Tensor | None = None
    language: Tensor | None = None
    pair: Tensor | None = None
    stats: bool = True


class DenseFeedForward(nn.Module):
    """``x + dropout(FFN(LayerNorm(x)))``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.d_model, config.norm_epsilon)
        self.ffn = ExpertFFN(config.d_model, config.d_ffn, config.activation)
        self.dropout = config.dropout

    def forward(self, x: Tensor, *_: object) -> tuple[Tensor, BlockStats | None]:
        """[B, T, D] -> [B, T, D] and no statistics; what a block would want to know of the positions is ignored."""
        return x + F.dropout(self.ffn(self.norm(x)), self.dropout, self.training), None


def moe_factory(
    model: ModelConfig,
    seed: int,
    *,
    ep_rank: int = 0,
    ep_size: int = 1,
    cls: type[StratifiedMoE] | None = None,
    check_finite: bool = False,
) -> MoeFactory:
    """Builder of the run's blocks, by name and settings.

    Args:
        model: widths and dropout.
        seed: seed of the initial weights.
        ep_rank: this rank's number in its expert-parallel group.
        ep_size: size of that group; 1 where one process holds all experts, as in decoding.
        cls: class to build, for an engine that wants a subclass.
        check_finite: see :class:`smoe_ds.moe.layer.StratifiedMoE`.
    """

    def make(name: str, block: BlockSettings) -> StratifiedMoE:
        return (cls or StratifiedMoE)(
            model.d_model,
            model.d_ffn,
            activation=model.activation,
            dropout=model.dropout,
            norm_epsilon=model.norm_epsilon,
            check_finite=check_finite,
            ep_size=ep_size,
            ep_rank=ep_rank,
            seed=seed,
            name=name,
            **{key: getattr(block, key) for key in BlockSettings.model_fields},
        )

    return make
