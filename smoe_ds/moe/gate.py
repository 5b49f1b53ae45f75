"""The gate of one stratum: probabilities over the experts it sees, and the choice of K of them per token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Choices:
    """What a gate decided for T tokens, E visible experts and K choices.

    Attributes:
        probs_TE: softmax over the visible experts, float32 or wider.
        expert_TK: chosen experts, numbered from 0 at the first visible one; first choice in column 0.
    """

    probs_TE: Tensor
    expert_TK: Tensor


def gate_probs(h_TD: Tensor, weight_ED: Tensor) -> Tensor:
    """Softmax of a bias-free linear gate, in float32 whatever the model's dtype (Eq. 4).

    Half precision would make the top choices depend on rounding.

    Args:
        h_TD: normalised tokens [T, D].
        weight_ED: gate weight [E, D].

    Returns:
        [T, E], float32 (float64 for float64 input).
    """
    dtype = torch.promote_types(h_TD.dtype, torch.float32)
    with torch.autocast(h_TD.device.type, enabled=False):
        return torch.softmax(F.linear(h_TD.to(dtype), weight_ED.to(dtype)), dim=-1)


def choose(probs_TE: Tensor, top_k: int, sample_second: bool) -> Choices:
    """First choice by highest probability; second by the next highest, or drawn.

    Args:
        probs_TE: gate probabilities [T, E].
        top_k: 1 or 2; with a single visible expert there is one choice only.
        sample_second: draw the second expert from the probabilities of all but the first (Gumbel-max, as in GShard)
            instead of taking the best.

    Returns:
        The choices, K = min(top_k, E).
    """
    with torch.no_grad():
        first_T1 = probs_TE.argmax(dim=-1, keepdim=True)
        if min(top_k, probs_TE.shape[-1]) == 1:
            return Choices(probs_TE, first_T1)
        scores_TE = probs_TE
        if sample_second:
            # argmax(log p + Gumbel) = argmax(p / Exponential): one draw per entry, no logarithm of zero.
            scores_TE = probs_TE / torch.empty_like(probs_TE).exponential_()
        second_T1 = scores_TE.scatter(1, first_T1, -1.0).argmax(dim=-1, keepdim=True)
        return Choices(probs_TE, torch.cat([first_T1, second_T1], dim=1))


def combine_weights(probs_TK: Tensor, kept_TK: Tensor, mode: str) -> Tensor:
    """Weights of the chosen experts' outputs.

    Args:
        probs_TK: probabilities of the choices [T, K].
        kept_TK: True where the choice found room in its expert.
        mode: ``after_drop``: renormalised over the kept choices (the authors' code); ``before_drop``: over all choices;
            ``raw``: the softmax values (Eq. 6). With K = 1 always ``raw``: a renormalised single weight would be the
            constant 1 and the gate would learn nothing from the task loss.

    Returns:
        [T, K], zero where not kept.
    """
    kept = kept_TK.to(probs_TK.dtype)
    if mode == "raw" or probs_TK.shape[1] == 1:
        return probs_TK * kept
    over = probs_TK * kept if mode == "after_drop" else probs_TK
    total_T1 = over.sum(dim=1, keepdim=True)
    return probs_TK * kept / torch.where(total_T1 > 0, total_T1, torch.ones_like(total_T1))
