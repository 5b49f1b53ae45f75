"""Balancing without an auxiliary loss: each expert has a bias that counts for its choice, not for its weight.

After every optimizer step the bias of an expert with fewer rows than the mean of its gate's experts rises by ``rate``,
that of one with more falls. It is kept as a whole number of such steps: exact in every dtype and topology.

Source: arXiv 2408.15664.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.moe.stats import BlockStats


class BiasBalancer:
    """Counts the rows of an optimizer step's micro-batches and moves the biases at its end.

    Args:
        blocks: the model's blocks, in the order of their statistics; those without bias balancing are left alone.
        sum_counts: sums a float64 vector over all ranks.
    """

    def __init__(self, blocks: Sequence[StratifiedMoE], sum_counts: Callable[[Tensor], Tensor]) -> None:
        self._blocks = list(blocks)
        self._sum_counts = sum_counts
        self._rows: Tensor | None = None

    @property
    def active(self) -> bool:
        """Whether any block has biases."""
        return any(block.bias_balancing for block in self._blocks)

    def add(self, stats: Sequence[BlockStats]) -> None:
        """Counts one micro-batch of this rank."""
        if not self.active:
            return
        rows = torch.cat([stratum.requested_KE.sum(0) for block in stats for stratum in block.strata])
        self._rows = rows if self._rows is None else self._rows + rows

    def step(self) -> None:
        """Moves the biases. A collective where blocks have biases; something must have been added since the last."""
        if not self.active:
            return
        assert self._rows is not None
        rows = self._sum_counts(self._rows.to(torch.float64))
        self._rows = None
        biases = [(block, steps) for block in self._blocks for steps in block.bias_steps()]
        sizes = [gate.shape[0] for block in self._blocks for gate in block.gates]
        with_bias = [
            rows_E
            for rows_E, block in zip(
                rows.split(sizes), [block for block in self._blocks for _ in block.gates], strict=True
            )
            if block.bias_balancing
        ]
        for rows_E, (_, steps_E) in zip(with_bias, biases, strict=True):
            steps_E += torch.sign(rows_E.mean() - rows_E).to(steps_E.dtype)
