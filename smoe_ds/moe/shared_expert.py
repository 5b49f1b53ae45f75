"""The expert that every token passes, and how its output is mixed with that of the routed ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from smoe_ds.moe.gate import gate_logits

GATE_ROWS = {"none": 0, "add": 0, "cmr": 1, "residual": 2}
"""Rows of the linear gate that mixes, by ``shared_expert``."""


def mixing_gate(shared_expert: str, d_model: int) -> nn.Linear | None:
    """The gate of a setting, with bias; None if it has none."""
    rows = GATE_ROWS[shared_expert]
    return nn.Linear(d_model, rows) if rows else None


def mix_shared(
    h_TD: Tensor, y_TD: Tensor, shared_TD: Tensor, gate: nn.Linear | None, gate_dropout: float = 0.0
) -> tuple[Tensor, Tensor | None]:
    """The output of the routed experts with that of the shared one.

    Without a gate both are added. A gate of one row (CMR) is the routed experts' share, after a sigmoid; one of two
    rows (PR-MoE as in DeepSpeed's ``use_residual``) gives the factors of both, after a softmax.

    Args:
        h_TD: normalised tokens, the gate's input.
        y_TD: of the routed experts.
        shared_TD: of the shared one.
        gate: of :func:`mixing_gate`.
        gate_dropout: CMR: share of the tokens whose gate is closed this time.

    Returns:
        [T, D], and the sum of CMR's gate over the tokens before its dropout; None without.

    Source: NLLB, arXiv 2207.04672, 6.2.2; PR-MoE, arXiv 2201.05596, 4.1.
    """
    if gate is None:
        return y_TD + shared_TD, None
    logits = gate_logits(h_TD, gate.weight) + gate.bias
    if gate.out_features == GATE_ROWS["residual"]:
        routed_T1, own_T1 = torch.softmax(logits, dim=-1).split(1, dim=1)
        return (routed_T1 * y_TD + own_T1 * shared_TD).to(y_TD.dtype), None
    gate_T1 = torch.sigmoid(logits)
    gate_sum = gate_T1.sum()
    if gate_dropout:
        gate_T1 = gate_T1 * torch.empty_like(gate_T1).bernoulli_(1 - gate_dropout)
    return (gate_T1 * y_TD + (1 - gate_T1) * shared_TD).to(y_TD.dtype), gate_sum
