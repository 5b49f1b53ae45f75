"""The stratified layer as DeepSpeed's engine wants to see it: the only file that leans on DeepSpeed's MoE internals.

The engine knows mixture-of-experts layers by ``isinstance(module, deepspeed.moe.layer.MoE)`` and expert parameters by
the tags ``allreduce = False`` and ``group_name``; it then averages and partitions them over the ranks that hold the
same experts. A layer with ``ep_size`` 1 needs none of this: its experts are ordinary replicated parameters.
"""

from __future__ import annotations

from typing import Any

from deepspeed.moe.layer import MoE
from deepspeed.utils import groups

from smoe_ds.errors import LaunchError
from smoe_ds.moe.expert_parallel import ExpertParallelDispatcher, rank_or_none
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

    def _own_ep_rank(self, ep_size: int) -> int:
        rank = rank_or_none()
        if rank is None:
            raise LaunchError(
                f"ep_size {ep_size}: which experts are on this rank? Call deepspeed.init_distributed() before building "
                "the layer"
            )
        return rank % ep_size

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
