"""Balancing without an auxiliary loss: each expert has a bias that counts for its choice, not for its weight.

After every optimizer step the bias of an expert with fewer rows than the mean of its gate's experts rises by ``rate``,
that of one with more falls. It is kept as a whole number of such steps: exact in every dtype and topology.

Source: arXiv 2408.15664.
"""

from __future__ import annotations

import torch
from torch import Tensor

from smoe_ds.moe.adaptive import Rewrite
from smoe_ds.moe.stats import StratumStats


class BalancingBias:
    """The biases of one gate's experts, :class:`smoe_ds.moe.adaptive.Adaptive`.

    Args:
        steps_E: the biases in steps [E], int64; moved in place.
    """

    def __init__(self, steps_E: Tensor) -> None:
        self._steps_E = steps_E

    def counts(self, stats: StratumStats) -> Tensor:
        """Rows that each expert was to get."""
        return stats.requested_KE.sum(0).to(torch.float64)

    def adapt(self, counts: Tensor) -> list[Rewrite]:
        """Moves the biases."""
        self._steps_E += torch.sign(counts.mean() - counts).to(self._steps_E.dtype)
        return []
