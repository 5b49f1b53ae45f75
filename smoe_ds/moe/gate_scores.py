"""Cosine scores: a gate that compares directions in a space of few dimensions, instead of a linear one."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoe_ds.moe.gate import gate_logits
from smoe_ds.moe.initial import initialize

FIRST_TEMPERATURE = 0.3
"""What the softmax's temperature starts at, and what it stays at in the probabilities of the balance loss."""


class CosineScores(nn.Module):
    """``cos(W h, u_e)``, between -1 and 1; the softmax takes it over a temperature that is learnt.

    ``W`` [d, D] is the gate's weight and handed in. The temperature is kept as its logarithm, so it stays positive.

    Args:
        visible: experts that the gate sees, E.
        width: dimensions d.
        how: initial scale of ``u``, see :mod:`smoe_ds.moe.initial`.

    Source: X-MoE, arXiv 2204.09179, 3.2.
    """

    def __init__(self, visible: int, width: int, how: str) -> None:
        super().__init__()
        self.how = how
        self.directions = nn.Parameter(torch.empty(visible, width))
        self.log_temperature = nn.Parameter(torch.full((1,), math.log(FIRST_TEMPERATURE)))

    def initialize(self, *name: object) -> None:
        """Draws ``u`` from a generator seeded by ``name``."""
        initialize(self.directions, None, self.how, *name, "directions")

    def forward(self, h_TD: Tensor, weight_dD: Tensor) -> Tensor:
        """Cosines [T, E], float32 (float64 for float64 input), whatever the model's dtype."""
        token_Td = F.normalize(gate_logits(h_TD, weight_dD), dim=-1)
        expert_Ed = F.normalize(self.directions.to(token_Td.dtype), dim=-1)
        return gate_logits(token_Td, expert_Ed)

    def logits(self, cosines_TE: Tensor) -> Tensor:
        """What the softmax is taken of."""
        return cosines_TE * torch.exp(-self.log_temperature.to(cosines_TE.dtype))
