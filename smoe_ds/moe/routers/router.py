"""The base of all routers."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from smoe_ds.config.block import BlockSettings
from smoe_ds.moe.adaptive import Adaptive
from smoe_ds.moe.capacity import count_values
from smoe_ds.moe.routing import GateSums, Routing, RoutingContext


class Router(nn.Module, ABC):
    """Chooses experts for the tokens of one stratum.

    The gate's weight is the block's and is handed in; what else a router learns or remembers is its own.

    Args:
        block: the settings of the block.
        d_model: width D.
        visible: experts that the stratum sees, E.
    """

    def __init__(self, block: BlockSettings, d_model: int, visible: int) -> None:
        super().__init__()
        self.block = block
        self.d_model = d_model
        self.visible = visible

    def initialize(self, *name: object) -> None:
        """Sets the router's own parameters, from a generator seeded by ``name`` where they are drawn."""

    @abstractmethod
    def forward(self, h_TD: Tensor, gate_ED: Tensor | None, context: RoutingContext) -> Routing:
        """The experts of each token.

        Args:
            h_TD: normalised tokens [T, D]; T may be 0.
            gate_ED: the gate's weight [E, D]; None for a router without one.
            context: what else is known.
        """

    def weights(self, routing: Routing, kept_TK: Tensor | None) -> Tensor:
        """Weights of the chosen experts' outputs [T, K], 0 where a choice is not kept.

        Args:
            routing: what :meth:`forward` gave.
            kept_TK: True where a choice is taken and found room in its expert; None if all did.
        """
        return routing.weights_TK if kept_TK is None else routing.weights_TK * kept_TK

    def adaptive(self) -> Adaptive | None:
        """What adapts to the routing after each step, from where its buffers are now; None if nothing does."""
        return None


def entropy_sum(probs_TE: Tensor) -> Tensor:
    """Entropy of probabilities, summed over tokens [nat], without gradient."""
    return torch.special.entr(probs_TE.detach()).sum()


def z_sum(logits_TE: Tensor) -> Tensor:
    """Squared log-sum-exp of logits, summed over tokens."""
    return logits_TE.logsumexp(dim=-1).square().sum()


def without(logits_TE: Tensor, forbidden_E: Tensor | None) -> Tensor:
    """The logits, minus infinity where an expert must not be chosen."""
    return logits_TE if forbidden_E is None else logits_TE.masked_fill(forbidden_E, -torch.inf)


def biased(scores_TE: Tensor, rate: float, steps_E: Tensor | None) -> Tensor:
    """Scores for the choice: with each expert's balancing bias, ``rate`` times its steps, if there is one."""
    return scores_TE if steps_E is None else scores_TE + rate * steps_E.to(scores_TE.dtype)


def fixed_routing(expert_T: Tensor, num_experts: int, h_TD: Tensor) -> Routing:
    """One expert a token with weight 1, from no probabilities.

    Args:
        expert_T: visible-expert numbers [T].
        num_experts: experts that the gate sees, E.
        h_TD: the tokens, for device and dtype.
    """
    dtype = torch.promote_types(h_TD.dtype, torch.float32)
    nothing = h_TD.new_zeros((), dtype=dtype)
    counts_E = count_values(expert_T, num_experts).to(dtype)
    weights_T1 = h_TD.new_ones(h_TD.shape[0], 1, dtype=dtype)
    return Routing(expert_T.unsqueeze(1), weights_T1, GateSums(counts_E, nothing, nothing))
