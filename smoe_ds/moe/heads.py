"""Tokens as several narrow sub-tokens, which find their experts each on its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor, nn

from smoe_ds.moe.seeding import uniform_, xavier_bound
from smoe_ds.moe.stats import BlockStats

InnerBlock = Callable[
    [Tensor, Tensor | None, int | None, Tensor | None, Tensor | None, Tensor | None],
    tuple[Tensor, BlockStats | None],
]
"""``(x, padding_mask, num_tokens, token_ids, language, pair) -> (y, stats)``, residual included, of width D/H."""


class Heads(nn.Module):
    """``x + Wm(block(slices of Wh(LayerNorm(x))))``; slice j of position s is position ``s H + j`` of the block.

    The block has its own norms and residuals: slices part ways in its strata, and what comes out of it is the slice
    with the outputs of its experts added. Positions that are padding pass both projections, but no expert.

    Args:
        d_model: D.
        heads: H, a divisor of D.
        norm_epsilon: added to the variance in LayerNorm.

    Source: MH-MoE, arXiv 2404.15045, 3 (Eq. 3-7): biases and initial weights as in the authors' code, the sub-token's
    residual as in the text.
    """

    def __init__(self, d_model: int, heads: int, norm_epsilon: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(d_model, norm_epsilon)
        self.split = nn.Linear(d_model, d_model)
        self.merge = nn.Linear(d_model, d_model)

    def initialize(self, *name: object) -> None:
        """Xavier, with gain 1/sqrt(2) before the split; biases zero."""
        bound = xavier_bound(self.split.in_features, self.split.out_features)
        uniform_(self.split.weight, bound / math.sqrt(2), *name, "split")
        uniform_(self.merge.weight, bound, *name, "merge")
        nn.init.zeros_(self.split.bias)
        nn.init.zeros_(self.merge.bias)

    def forward(
        self,
        x: Tensor,
        block: InnerBlock,
        padding_mask: Tensor | None,
        num_tokens: int | None,
        token_ids: Tensor | None,
        language: Tensor | None,
        pair: Tensor | None,
    ) -> tuple[Tensor, BlockStats | None]:
        """[..., S, D] -> [..., S, D], with the statistics of the slices; arguments as of the layer.

        Args:
            x: [..., S, D].
            block: what slices pass.
            padding_mask: [..., S].
            num_tokens: positions that are no padding.
            token_ids: [B, S].
            language: [B].
            pair: [B, 2].
        """
        slices = self.split(self.norm(x)).reshape(*x.shape[:-2], -1, x.shape[-1] // self.heads)
        y, stats = block(
            slices,
            self._of_slices(padding_mask),
            None if num_tokens is None else num_tokens * self.heads,
            self._of_slices(token_ids),
            language,
            pair,
        )
        y = x + self.merge(y.reshape(x.shape))
        if stats is None:
            return y, None
        passes = stats.requested_capacity.reshape(*x.shape[:-1], self.heads).sum(-1)
        return y, replace(stats, requested_capacity=passes, heads=self.heads)

    def _of_slices(self, values: Tensor | None) -> Tensor | None:
        """What is known of positions [..., S], for each of their slices [..., S H]."""
        return None if values is None else values.repeat_interleave(self.heads, dim=-1)
