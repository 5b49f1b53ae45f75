"""The stratified layer as DeepSpeed's engine wants to see it: the only file that leans on DeepSpeed's MoE internals.

The engine knows mixture-of-experts layers by ``isinstance(module, deepspeed.moe.layer.MoE)`` and expert parameters by
the tags ``allreduce = False`` and ``group_name``; it then averages and partitions them over the ranks that hold the
same experts. A layer with ``ep_size`` 1 needs none of this: its experts are ordinary replicated parameters.
"""

from __future__ import annotations

from typing import Any

from deepspeed.moe.layer import MoE
from deepspeed.utils import groups

from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.errors import LaunchError
from smoe_ds.model.feed_forward import moe_factory
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe.expert_parallel import ExpertParallelDispatcher
from smoe_ds.moe.layer import StratifiedMoE


class ExpertParallelMoE(StratifiedMoE, MoE):
    """A stratified layer whose experts are spread over an expert-parallel group of DeepSpeed's."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        StratifiedMoE.__init__(self, *args, **settings)
        self.ep_size = self.placement.ep_size
        self.num_experts = self.placement.num_experts
        self.num_local_experts = len(self.experts)
        self.expert_group_name = f"ep_size_{self.ep_size}"
        self.enable_expert_tensor_parallelism = False
        self.use_residual = False
        for parameter in self.experts.parameters():
            for tag, value in (("allreduce", False), ("group_name", self.expert_group_name)):
                setattr(parameter, tag, value)

    def set_deepspeed_parallelism(self, use_data_before_expert_parallel_: bool = False) -> None:
        """Called by the engine: create DeepSpeed's groups and exchange rows within this rank's.

        Raises:
            LaunchError: if this rank's experts are not those of its place in the group.
        """
        if self.expert_group_name not in groups._get_expert_parallel_group_dict():
            groups._create_expert_and_data_parallel(
                self.ep_size, use_data_before_expert_parallel_=use_data_before_expert_parallel_
            )
        dispatcher = ExpertParallelDispatcher(groups._get_expert_parallel_group(self.expert_group_name))
        if dispatcher.rank != self.ep_rank:
            raise LaunchError(
                f"rank {dispatcher.rank} of the expert-parallel group holds the experts of rank {self.ep_rank}; "
                "set use_data_before_expert_parallelism to false"
            )
        self.dispatcher = dispatcher


def build_model(model: ModelConfig, moe: MoeConfig, vocab_size: int, *, seed: int, rank: int) -> Transformer:
    """The part of the run's model that lives on ``rank``: everything dense, and its share of the experts.

    Args:
        model: sizes and regularisation.
        moe: stratified blocks; expert-parallel groups are consecutive ranks, ``ep_size`` of them.
        vocab_size: V.
        seed: seed of the initial weights, which are the same for every ``ep_size``.
        rank: global rank.
    """
    if moe.is_dense or moe.ep_size == 1:
        return Transformer(model, moe, vocab_size, seed=seed)
    make = moe_factory(model, moe, seed, ep_rank=rank % moe.ep_size, ep_size=moe.ep_size, cls=ExpertParallelMoE)
    return Transformer(model, moe, vocab_size, seed=seed, make_moe=make)
