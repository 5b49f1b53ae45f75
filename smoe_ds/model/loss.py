"""Label-smoothed cross-entropy, summed, so that the caller can normalise by the exact number of tokens."""

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
    """

    smoothed: Tensor
    nll: Tensor


def translation_loss(logits_BTV: Tensor, target_BT: Tensor, label_smoothing: float) -> TranslationLoss:
    """Summed loss of a micro-batch, in float32 or wider.

    The smoothed target puts ``1 - label_smoothing`` on the reference plus ``label_smoothing / V`` on every entry.

    Args:
        logits_BTV: [B, T, V].
        target_BT: reference tokens, 0 = padding [B, T].
        label_smoothing: 0.1 in the paper.
    """
    logits = logits_BTV.flatten(0, 1)
    log_probs = F.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    target = target_BT.flatten()
    real = target != PAD_ID
    nll = -(log_probs.gather(1, target.unsqueeze(1)).squeeze(1) * real).sum()
    uniform = -(log_probs.mean(dim=1) * real).sum()
    return TranslationLoss((1 - label_smoothing) * nll + label_smoothing * uniform, nll.detach())
