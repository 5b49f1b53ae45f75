"""The gate of one stratum: probabilities over the experts it sees, and the choice of K of them per token."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_LEAST_SCORE = 1e-9  # what an expert keeps for the draw when its bias takes more than its probability


def gate_logits(h_TD: Tensor, weight_ED: Tensor) -> Tensor:
    """A bias-free linear gate, in float32 whatever the model's dtype (Eq. 4).

    Half precision would make the top choices depend on rounding.

    Args:
        h_TD: normalised tokens [T, D].
        weight_ED: gate weight [E, D].

    Returns:
        [T, E], float32 (float64 for float64 input).
    """
    dtype = torch.promote_types(h_TD.dtype, torch.float32)
    if not torch.is_autocast_enabled(h_TD.device.type):
        return F.linear(h_TD.to(dtype), weight_ED.to(dtype))
    with torch.autocast(h_TD.device.type, enabled=False):
        return F.linear(h_TD.to(dtype), weight_ED.to(dtype))


def jittered(h_TD: Tensor, jitter: float) -> Tensor:
    """``h`` times U(1 - jitter, 1 + jitter), one number per element (Switch Transformers, arXiv 2101.03961, 2.2)."""
    return h_TD * torch.empty_like(h_TD).uniform_(1 - jitter, 1 + jitter) if jitter else h_TD


def choose(scores_TE: Tensor, top_k: int, sample: bool) -> Tensor:
    """First choice by the highest score; the others by the next highest, or drawn without replacement.

    Args:
        scores_TE: gate probabilities, with a balancing bias if there is one [T, E].
        top_k: choices per token, at most E.
        sample: draw all but the first choice in proportion to the scores (Gumbel-max, as in GShard) instead of taking
            the best.

    Returns:
        Chosen experts, numbered from 0 at the first visible one [T, K]; equal scores go to the lower number.
    """
    with torch.no_grad():
        first_T1 = scores_TE.argmax(dim=-1, keepdim=True)
        if top_k == 1:
            return first_T1
        if sample:
            # argmax(log p + Gumbel) = argmax(p / Exponential): one draw per entry, no logarithm of zero.
            scores_TE = scores_TE.clamp(min=_LEAST_SCORE) / torch.empty_like(scores_TE).exponential_()
        others_TE = scores_TE.scatter(1, first_T1, -torch.inf)
        if top_k == 2:
            return torch.cat([first_T1, others_TE.argmax(dim=-1, keepdim=True)], dim=1)
        ranking_TE = others_TE.sort(dim=-1, descending=True, stable=True).indices
        return torch.cat([first_T1, ranking_TE[:, : top_k - 1]], dim=1)


def normalised_weights(probs_TK: Tensor, kept_TK: Tensor | None, mode: str) -> Tensor:
    """Weights of the chosen experts' outputs.

    Args:
        probs_TK: probabilities of the choices [T, K].
        kept_TK: True where the choice found room in its expert; None if all did.
        mode: ``after_drop``: renormalised over the kept choices (the authors' code); ``before_drop``: over all choices;
            ``raw``: the softmax values (Eq. 6); ``ones``: 1 each. With K = 1 the first two are as ``raw``: a
            renormalised single weight would be the constant 1 and the gate would learn nothing from the task loss.

    Returns:
        [T, K], zero where not kept.
    """
    return rescaled_weights(probs_TK, kept_TK, "raw" if probs_TK.shape[1] == 1 and mode != "ones" else mode)


def rescaled_weights(probs_TK: Tensor, kept_TK: Tensor | None, mode: str) -> Tensor:
    """The same for any K, 1 included, where K is only the most that a token of the batch takes."""
    if mode == "ones":
        return torch.ones_like(probs_TK) if kept_TK is None else kept_TK.to(probs_TK.dtype)
    kept_probs_TK = probs_TK if kept_TK is None else probs_TK * kept_TK
    if mode == "raw":
        return kept_probs_TK
    total_T1 = (kept_probs_TK if mode == "after_drop" else probs_TK).sum(dim=1, keepdim=True)
    return kept_probs_TK / torch.where(total_T1 > 0, total_T1, torch.ones_like(total_T1))
