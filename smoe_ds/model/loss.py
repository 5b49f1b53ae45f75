"""Losses summed over target tokens, so that the caller can normalise by their exact number."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from smoe_ds.model.transformer import PAD_ID


@dataclass(frozen=True)
class TranslationLoss:
    """Sums over the target tokens of a micro-batch, padding excluded.

    Attributes:
        smoothed: label-smoothed cross-entropy, with gradient [nat].
        nll: negative log-likelihood, without gradient [nat].
        nll_B: the same of each sentence [B]; None where it is not known.
    """

    smoothed: Tensor
    nll: Tensor
    nll_B: Tensor | None = None

    def mean_with(self, other: TranslationLoss) -> TranslationLoss:
        """The mean of two passes over the same targets."""
        nll_B = None if self.nll_B is None or other.nll_B is None else (self.nll_B + other.nll_B) / 2
        return TranslationLoss((self.smoothed + other.smoothed) / 2, (self.nll + other.nll) / 2, nll_B)


def translation_loss(logits_BTV: Tensor, target_BT: Tensor, label_smoothing: float) -> TranslationLoss:
    """Summed loss of a micro-batch, in float32 or wider.

    The smoothed target puts ``1 - label_smoothing`` on the reference plus ``label_smoothing / V`` on every entry.

    Args:
        logits_BTV: [B, T, V].
        target_BT: reference tokens, 0 = padding [B, T].
        label_smoothing: 0.1 in the paper.
    """
    log_probs = _log_probs(logits_BTV).flatten(0, 1)
    target = target_BT.flatten()
    real = target != PAD_ID
    per_token = -(log_probs.gather(1, target.unsqueeze(1)).squeeze(1) * real)
    nll = per_token.sum()
    uniform = -(log_probs.mean(dim=1) * real).sum()
    nll_B = per_token.detach().view(target_BT.shape).sum(dim=1)
    return TranslationLoss((1 - label_smoothing) * nll + label_smoothing * uniform, nll.detach(), nll_B)


def token_nll(logits_BTV: Tensor, target_BT: Tensor) -> Tensor:
    """Negative log-likelihood of every target token [nat], in float32 or wider; padding has one as well.

    Args:
        logits_BTV: [B, T, V].
        target_BT: reference tokens [B, T].

    Returns:
        [B, T].
    """
    wide = torch.promote_types(logits_BTV.dtype, torch.float32)
    return F.cross_entropy(logits_BTV.flatten(0, 1).to(wide), target_BT.flatten(), reduction="none").view_as(target_BT)


def consistency_loss(logits_BTV: Tensor, other_BTV: Tensor, target_BT: Tensor) -> Tensor:
    """Mean of both KL divergences between two predictions p and q, summed over the target tokens [nat].

    ``sum_v (p_v - q_v)(log p_v - log q_v) / 2`` for each token; 0 where they are equal.

    Args:
        logits_BTV: of one pass [B, T, V].
        other_BTV: of the other [B, T, V].
        target_BT: reference tokens, 0 = padding [B, T].

    Returns:
        0-dim tensor, float32 or wider, with gradient for both passes.

    Source: THOR, arXiv 2110.04260.
    """
    log_p, log_q = _log_probs(logits_BTV), _log_probs(other_BTV)
    divergence_BT = ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=-1)
    return (divergence_BT * (target_BT != PAD_ID)).sum() / 2


def _log_probs(logits: Tensor) -> Tensor:
    """Logarithms of the probabilities, in float32 or wider."""
    return F.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
