"""What a block reports about one forward pass: the input of the auxiliary losses, of the log and of the analysis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class StratumStats:
    """One stratum of one block, this rank's tokens, padding never counted.

    Attributes:
        num_tokens: tokens that entered the stratum, T_i.
        prob_sum_E: gate probabilities summed over tokens [E_i], with gradient.
        requested_KE: rows wanted per choice and visible expert [K, E_i], before capacity, int64.
        num_dropped: rows without room in their expert, summed over the choices.
        entropy_sum: gate entropy summed over tokens [nat], a 0-dim tensor without gradient.
        z_sum: squared log-sum-exp of the gate's logits summed over tokens, a 0-dim tensor with gradient.
    """

    num_tokens: int
    prob_sum_E: Tensor
    requested_KE: Tensor
    num_dropped: int
    entropy_sum: Tensor
    z_sum: Tensor

    @property
    def first_choice_E(self) -> Tensor:
        """Tokens whose first choice is each visible expert [E_i]."""
        return self.requested_KE[0]


@dataclass(frozen=True)
class BlockStats:
    """One block: its strata, and how often each position was processed.

    Attributes:
        strata: one entry per stratum.
        requested_capacity: strata each position passed, in the shape of the input without D; 0 for padding, int64.
        cmr_gate_sum: CMR's gate summed over tokens, before its dropout, a 0-dim tensor with gradient; None without.
    """

    strata: Sequence[StratumStats]
    requested_capacity: Tensor
    cmr_gate_sum: Tensor | None = None

    @property
    def num_tokens(self) -> int:
        return self.strata[0].num_tokens

    @property
    def num_passes(self) -> int:
        """Sum of requested capacity over the tokens; divided by ``num_tokens`` it is their mean RC."""
        return sum(stratum.num_tokens for stratum in self.strata)
