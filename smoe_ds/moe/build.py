"""Builds the stratified layer for one rank or for an expert-parallel group of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smoe_ds.moe.layer import StratifiedMoE


def stratified_moe(
    d_model: int, d_ffn: int, strata: Sequence[int], top_k: int = 2, *, ep_size: int = 1, **settings: Any
) -> StratifiedMoE:
    """A stratified layer whose experts lie on this rank, or are spread over ``ep_size`` ranks.

    With ``ep_size`` above 1 call ``deepspeed.init_distributed()`` first and hand the model to ``deepspeed.initialize``,
    as with DeepSpeed's own ``MoE``.

    Args:
        d_model: width D.
        d_ffn: inner width F of the built-in experts, unless ``expert_ffn`` is set.
        strata: experts per stratum, first stratum first.
        top_k: experts per token and stratum, K.
        ep_size: ranks that share one copy of the experts.
        **settings: the other arguments of :class:`StratifiedMoE`.

    Raises:
        ValueError: an argument that cannot work, with the remedy.
        LaunchError: ``ep_size`` above 1 without a process group.
    """
    if ep_size == 1:
        return StratifiedMoE(d_model, d_ffn, strata, top_k, **settings)
    from smoe_ds.moe.deepspeed_layer import ExpertParallelMoE  # imports DeepSpeed

    return ExpertParallelMoE(d_model, d_ffn, strata, top_k, ep_size=ep_size, **settings)
