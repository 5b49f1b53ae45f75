"""Feed-forward experts and the loop that applies them to rows grouped by expert."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoe_ds.moe.seeding import uniform_, xavier_bound


class ExpertFFN(nn.Module):
    """``relu(x w1^T + b1) w2^T + b2``: one expert, also the dense feed-forward network.

    Biases as in the authors' code; the paper's equations leave them out.
    """

    def __init__(self, d_model: int, d_ffn: int) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.empty(d_ffn, d_model))
        self.b1 = nn.Parameter(torch.zeros(d_ffn))
        self.w2 = nn.Parameter(torch.empty(d_model, d_ffn))
        self.b2 = nn.Parameter(torch.zeros(d_model))

    def initialize(self, *name: object) -> None:
        """Draw the weights from a generator seeded by ``name``; biases are zero."""
        bound = xavier_bound(self.w1.shape[1], self.w1.shape[0])
        uniform_(self.w1, bound, *name, "w1")
        uniform_(self.w2, bound, *name, "w2")

    def forward(self, x: Tensor) -> Tensor:
        """[R, D] -> [R, D]."""
        return F.linear(F.relu(F.linear(x, self.w1, self.b1)), self.w2, self.b2)


def apply_experts(experts: Iterable[nn.Module], rows_RD: Tensor, counts: Sequence[int]) -> Tensor:
    """Apply each expert to its rows.

    An expert without rows is applied to an empty tensor, so that its parameters get a (zero) gradient on every rank and
    the engine's gradient reduction sees the same parameters everywhere.

    Args:
        experts: one module [n, D] -> [n, D] per entry of ``counts``.
        rows_RD: rows grouped by expert, in the order of ``experts``.
        counts: rows per expert; sums to R. May be empty: a rank need not hold an expert of every stratum.

    Returns:
        [R, D], in the order of ``rows_RD``.
    """
    if not counts:
        return rows_RD
    return torch.cat([expert(rows) for expert, rows in zip(experts, rows_RD.split(list(counts)), strict=True)])
