"""The part of a run's model that lives on one rank."""

from __future__ import annotations

from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.model.feed_forward import moe_factory
from smoe_ds.model.transformer import Transformer


def build_model(
    model: ModelConfig, moe: MoeConfig, vocab_size: int, *, seed: int, rank: int, check_finite: bool = True
) -> Transformer:
    """The part of the run's model that lives on ``rank``: everything dense, and its share of the experts.

    Args:
        model: sizes and regularisation.
        moe: stratified blocks; expert-parallel groups are consecutive ranks, ``ep_size`` of them.
        vocab_size: V.
        seed: seed of the initial weights, which are the same for every ``ep_size``.
        rank: global rank.
        check_finite: see :class:`smoe_ds.moe.layer.StratifiedMoE`.
    """
    if moe.is_dense or moe.ep_size == 1:
        make = moe_factory(model, seed, check_finite=check_finite)
    else:
        from smoe_ds.moe.deepspeed_layer import ExpertParallelMoE

        make = moe_factory(
            model,
            seed,
            ep_rank=rank % moe.ep_size,
            ep_size=moe.ep_size,
            cls=ExpertParallelMoE,
            check_finite=check_finite,
        )
    return Transformer(model, moe, vocab_size, seed=seed, make_moe=make)
