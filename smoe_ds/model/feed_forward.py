"""The feed-forward sub-layer of a layer: dense, or a stratified block; both with norm and residual inside."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.moe.experts import ExpertFFN
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.moe.stats import BlockStats

LAYER_SETTINGS = {
    "norm",
    "combine_weights",
    "second_expert",
    "capacity_factor",
    "capacity_order",
    "stacked",
    "expert_output_masking",
    "shared_expert",
    "cmr_gate_dropout",
    "jitter",
    "gating_dropout",
    "gating_dropout_mode",
    "bias_balancing",
    "expert_backend",
    "exchange_chunks",
}
"""Settings of ``smoe.moe`` that are arguments of the layer, under the same name."""

MoeFactory = Callable[[str], StratifiedMoE]


class DenseFeedForward(nn.Module):
    """``x + dropout(FFN(LayerNorm(x)))``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.d_model)
        self.ffn = ExpertFFN(config.d_model, config.d_ffn, config.activation)
        self.dropout = config.dropout

    def forward(
        self, x: Tensor, padding_mask: Tensor | None = None, num_tokens: int | None = None
    ) -> tuple[Tensor, BlockStats | None]:
        """[B, T, D] -> [B, T, D] and no statistics."""
        return x + F.dropout(self.ffn(self.norm(x)), self.dropout, self.training), None


def moe_factory(
    model: ModelConfig,
    moe: MoeConfig,
    seed: int,
    *,
    ep_rank: int = 0,
    ep_size: int = 1,
    cls: type[StratifiedMoE] | None = None,
    check_finite: bool = False,
) -> MoeFactory:
    """Builder of the run's stratified blocks, by name.

    Args:
        model: widths and dropout.
        moe: the blocks' settings; its ``ep_size`` is not used here.
        seed: seed of the initial weights.
        ep_rank: this rank's number in its expert-parallel group.
        ep_size: size of that group; 1 where one process holds all experts, as in decoding.
        cls: class to build, for an engine that wants a subclass.
        check_finite: see :class:`smoe_ds.moe.layer.StratifiedMoE`.
    """

    def make(name: str) -> StratifiedMoE:
        return (cls or StratifiedMoE)(
            model.d_model,
            model.d_ffn,
            moe.strata,
            moe.top_k,
            activation=model.activation,
            dropout=model.dropout,
            check_finite=check_finite,
            **moe.model_dump(include=LAYER_SETTINGS),
            ep_size=ep_size,
            ep_rank=ep_rank,
            seed=seed,
            name=name,
        )

    return make
