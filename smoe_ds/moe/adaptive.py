"""What follows the routing after an optimizer step, without a gradient: balancing biases, pools of experts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from smoe_ds.moe.stats import BlockStats, StratumStats


@dataclass(frozen=True)
class Rewrite:
    """New numbers for some elements of a parameter; the same on every rank that holds it.

    Attributes:
        parameter: which one.
        first: number of the first element in the flattened parameter.
        values: of it and the next ones, 1-dim.
    """

    parameter: nn.Parameter
    first: int
    values: Tensor


class Adaptive(Protocol):
    """A part of one stratum that adapts. What it remembers are persistent buffers, the same on every rank."""

    def counts(self, stats: StratumStats) -> Tensor:
        """What one micro-batch adds: float64 [n], summed over micro-batches and ranks; n never changes."""

    def adapt(self, counts: Tensor) -> list[Rewrite]:
        """Adapts to the sums of a step [n]; returns the parameters that change, so that the optimizer follows."""


class Adaptation:
    """Counts an optimizer step's micro-batches and lets all parts adapt at its end, after one sum over the ranks.

    Args:
        blocks: the parts of each block with the number of their stratum, blocks in the order of their statistics; see
            :meth:`smoe_ds.moe.layer.StratifiedMoE.adaptive`.
        sum_counts: sums a float64 vector over all ranks.
        rewrite: changes parameters and the optimizer's copies of them; it is given the same on all ranks.
    """

    def __init__(
        self,
        blocks: Sequence[Sequence[tuple[int, Adaptive]]],
        sum_counts: Callable[[Tensor], Tensor],
        rewrite: Callable[[Sequence[Rewrite]], None],
    ) -> None:
        self._blocks = blocks
        self._sum_counts = sum_counts
        self._rewrite = rewrite
        self._counts: list[Tensor] = []

    @property
    def active(self) -> bool:
        """Whether any block adapts."""
        return any(self._blocks)

    def add(self, stats: Sequence[BlockStats]) -> None:
        """Counts one micro-batch of this rank."""
        if not self.active:
            return
        paired = zip(stats, self._blocks, strict=True)
        new = [part.counts(block.strata[stratum]) for block, parts in paired for stratum, part in parts]
        self._counts = [a + b for a, b in zip(self._counts, new, strict=True)] if self._counts else new

    def discard(self) -> None:
        """Forgets what was counted: the step was not taken."""
        self._counts = []

    def step(self) -> None:
        """Adapts. A collective where blocks do; something must have been added since the last."""
        if not self.active:
            return
        sizes = [counts.numel() for counts in self._counts]
        sums = self._sum_counts(torch.cat(self._counts)).split(sizes)
        self.discard()
        parts = [part for parts in self._blocks for _, part in parts]
        rewrites = [rewrite for part, counts in zip(parts, sums, strict=True) for rewrite in part.adapt(counts)]
        if rewrites:
            self._rewrite(rewrites)
