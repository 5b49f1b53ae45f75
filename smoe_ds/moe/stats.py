"""What a block reports about one forward pass: the input of the auxiliary losses, of the log and of the analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

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
        balanced: whether the gate has probabilities that the load-balancing loss and the z-loss are taken of.
        uses_load_balancing: whether the load-balancing loss is.
        sums: further sums over tokens for the router's own losses, with gradient.
        records: further sums over tokens that the router is told after the step, without gradient; None: none.
        widths_E: inner width of each visible expert [E_i], int64; None if all are equal.
    """

    num_tokens: int
    prob_sum_E: Tensor
    requested_KE: Tensor
    num_dropped: int
    entropy_sum: Tensor
    z_sum: Tensor
    balanced: bool = True
    uses_load_balancing: bool = True
    sums: Mapping[str, Tensor] = field(default_factory=dict)
    records: Tensor | None = None
    widths_E: Tensor | None = None

    @property
    def first_choice_E(self) -> Tensor:
        """Tokens whose first choice is each visible expert [E_i]."""
        return self.requested_KE[0]

    def __add__(self, other: StratumStats) -> StratumStats:
        """The same stratum over two forward passes."""
        return replace(
            self,
            num_tokens=self.num_tokens + other.num_tokens,
            prob_sum_E=self.prob_sum_E + other.prob_sum_E,
            requested_KE=self.requested_KE + other.requested_KE,
            num_dropped=self.num_dropped + other.num_dropped,
            entropy_sum=self.entropy_sum + other.entropy_sum,
            z_sum=self.z_sum + other.z_sum,
            sums={name: value + other.sums[name] for name, value in self.sums.items()},
            records=None if self.records is None or other.records is None else self.records + other.records,
        )


class ModelStats(list["BlockStats"]):
    """The blocks of one forward pass, encoder first.

    Attributes:
        language_gates: the gates of all sub-layers summed over this rank's tokens, with gradient, and the number of
            summands [2]; None where languages have nothing for themselves.
    """

    language_gates: Tensor | None = None

    def with_another(self, other: ModelStats) -> ModelStats:
        """The sums of this and another forward pass of the same batch."""
        both = ModelStats(one + another for one, another in zip(self, other, strict=True))
        if self.language_gates is not None and other.language_gates is not None:
            both.language_gates = self.language_gates + other.language_gates
        return both


@dataclass(frozen=True)
class BlockStats:
    """One block: its strata, and how often each position was processed.

    Attributes:
        strata: one entry per stratum.
        requested_capacity: strata each position passed, in the shape of the input without D; 0 for padding, int64. In
            a block with heads the sum over the position's slices, so that it stays a whole number: divided by ``heads``
            it is the position's requested capacity.
        cmr_gate_sum: CMR's gate summed over tokens, before its dropout, a 0-dim tensor with gradient; None without.
        heads: slices of a position, which the strata count as tokens.
    """

    strata: Sequence[StratumStats]
    requested_capacity: Tensor
    cmr_gate_sum: Tensor | None = None
    heads: int = 1

    @property
    def num_tokens(self) -> int:
        return self.strata[0].num_tokens

    @property
    def num_passes(self) -> int:
        """Sum of requested capacity over the tokens; divided by ``num_tokens`` it is their mean RC."""
        return sum(stratum.num_tokens for stratum in self.strata)

    def __add__(self, other: BlockStats) -> BlockStats:
        """The same block over two forward passes of one input: sums, as if it had twice as many tokens."""
        gate_sum = self.cmr_gate_sum
        return replace(
            self,
            strata=[one + another for one, another in zip(self.strata, other.strata, strict=True)],
            requested_capacity=self.requested_capacity + other.requested_capacity,
            cmr_gate_sum=None if gate_sum is None or other.cmr_gate_sum is None else gate_sum + other.cmr_gate_sum,
        )
