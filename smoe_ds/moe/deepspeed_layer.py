"""The stratified layer as DeepSpeed's engine wants to see it: a subclass of its MoE layer, in groups of its making.

The engine knows mixture-of-experts layers by ``isinstance(module, deepspeed.moe.layer.MoE)`` and expert parameters by
the tags ``allreduce = False`` and ``group_name``; it then averages and partitions them over the ranks that hold the
same experts. A layer with ``ep_size`` 1 needs none of this: its experts are ordinary replicated parameters.

``engine.save_checkpoint`` writes a file per expert and finds experts in the state dict by the names of DeepSpeed's own
layer, which number them within a rank. The layer's state dict has these names, and beside each expert the number it has
in the whole layer, so that a checkpoint of another ``ep_size`` is not taken for one of this.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import torch
from deepspeed.moe.layer import MoE
from deepspeed.utils import groups
from torch import Tensor, nn

from smoe_ds.errors import CheckpointError, LaunchError
from smoe_ds.moe.expert_parallel import ExpertParallelDispatcher, rank_or_none
from smoe_ds.moe.layer import StratifiedMoE

_OWN_EXPERTS = "experts."
_DEEPSPEED_EXPERTS = "deepspeed_moe.experts.deepspeed_experts."
_NUMBER = "number_in_layer"


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
        self.register_state_dict_post_hook(_name_experts_as_deepspeed_does)
        self.register_load_state_dict_pre_hook(_name_experts_as_the_layer_does)

    def _own_ep_rank(self, ep_size: int) -> int:
        rank = rank_or_none()
        if rank is None:
            raise LaunchError(
                f"ep_size {ep_size}: which experts are on this rank? Call deepspeed.init_distributed() before building "
                "the layer"
            )
        return rank % ep_size

    def set_deepspeed_parallelism(self, use_data_before_expert_parallel_: bool = False) -> None:
        """Creates DeepSpeed's groups and exchanges rows within this rank's; the engine calls it.

        Raises:
            LaunchError: if this rank's experts are not those of its place in the group.
        """
        if self.expert_group_name not in groups._get_expert_parallel_group_dict():
            groups._create_expert_and_data_parallel(
                self.ep_size, use_data_before_expert_parallel_=use_data_before_expert_parallel_
            )
        dispatcher = ExpertParallelDispatcher(
            groups._get_expert_parallel_group(self.expert_group_name), self.block.exchange_chunks
        )
        if dispatcher.rank != self.ep_rank:
            raise LaunchError(
                f"rank {dispatcher.rank} of the expert-parallel group holds the experts of rank {self.ep_rank}; "
                "set use_data_before_expert_parallelism to false"
            )
        self.dispatcher = dispatcher


def _name_experts_as_deepspeed_does(
    layer: nn.Module, state: MutableMapping[str, Tensor], prefix: str, local_metadata: Any
) -> None:
    """After ``state_dict()``: experts numbered within the rank, each with its number in the layer."""
    assert isinstance(layer, ExpertParallelMoE)
    for place, number in enumerate(layer.experts):
        old, new = f"{prefix}{_OWN_EXPERTS}{number}.", f"{prefix}{_DEEPSPEED_EXPERTS}{place}."
        for key in [key for key in state if key.startswith(old)]:
            state[new + key[len(old) :]] = state.pop(key)
        state[new + _NUMBER] = torch.tensor(int(number))


def _name_experts_as_the_layer_does(
    layer: nn.Module, state: MutableMapping[str, Tensor], prefix: str, *_: object
) -> None:
    """Before ``load_state_dict()``: the inverse; the names of the layer itself are taken as they are.

    Raises:
        CheckpointError: the experts are not those of this rank.
    """
    assert isinstance(layer, ExpertParallelMoE)
    start = f"{prefix}{_DEEPSPEED_EXPERTS}"
    found = {key.split(".")[0]: key for key in (key[len(start) :] for key in state if key.startswith(start))}
    numbers = {place: int(state.pop(f"{start}{place}.{_NUMBER}", torch.tensor(-1))) for place in found}
    if found and sorted(numbers.values()) != sorted(map(int, layer.experts)):
        raise CheckpointError(
            f"{layer.name}: the checkpoint has experts {sorted(numbers.values())} for this rank, which needs "
            f"{sorted(map(int, layer.experts))} at ep_size {layer.ep_size}; a checkpoint of DeepSpeed's loads only at "
            "the ep_size it was saved at"
        )
    for place, number in numbers.items():
        for key in [key for key in state if key.startswith(f"{start}{place}.")]:
            state[f"{prefix}{_OWN_EXPERTS}{number}.{key[len(start) + len(place) + 1 :]}"] = state.pop(key)
