"""One step of beam search as tensor arithmetic: from logits to the best continuations of each sentence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Continuations:
    """The C best one-token continuations of each sentence, best first; impossible ones have log-probability -inf.

    Attributes:
        log_prob_BC: log-probability of the whole continued hypothesis.
        origin_BC: which live hypothesis is continued, 0 .. W - 1.
        token_BC: by which token.
    """

    log_prob_BC: Tensor
    origin_BC: Tensor
    token_BC: Tensor

    def select(self, place_BK: Tensor) -> Continuations:
        """The continuations at some places of each sentence."""
        return Continuations(*(x.gather(1, place_BK) for x in (self.log_prob_BC, self.origin_BC, self.token_BC)))


def token_log_probs(
    logits_RV: Tensor, num: int, forbidden: Tensor, eos_id: int, eos_only_R: Tensor
) -> tuple[Tensor, Tensor]:
    """The ``num`` likeliest next tokens of each row and their log-probabilities, in float32 or wider.

    Forbidden tokens are left out after normalisation: a score is the model's own probability.

    Args:
        logits_RV: overwritten.
        num: tokens wanted per row.
        forbidden: ids of tokens that may not come next.
        eos_id: end of sentence.
        eos_only_R: True where nothing but the end of sentence may come next; it may even where it is forbidden.

    Returns:
        Log-probabilities and token ids [R, min(num, V)], best first, -inf where not allowed.
    """
    logits_RV = logits_RV.to(torch.promote_types(logits_RV.dtype, torch.float32))
    normaliser_R1 = logits_RV.logsumexp(dim=1, keepdim=True)
    eos_R1 = logits_RV[:, eos_id : eos_id + 1] - normaliser_R1
    logits_RV.index_fill_(1, forbidden, -torch.inf)
    top, token = logits_RV.topk(min(num, logits_RV.shape[1]), dim=1)
    log_prob = (top - normaliser_R1).masked_fill(eos_only_R.unsqueeze(1), -torch.inf)
    log_prob[:, :1] = torch.where(eos_only_R.unsqueeze(1), eos_R1, log_prob[:, :1])
    token[:, 0].masked_fill_(eos_only_R, eos_id)
    return log_prob, token


def best_continuations(log_prob_BW: Tensor, next_RN: Tensor, token_RN: Tensor, num: int) -> Continuations:
    """The ``num`` best continuations of each sentence among the best N of each of its live hypotheses.

    Args:
        log_prob_BW: log-probability of each live hypothesis, -inf for an unused place.
        next_RN: log-probability of its likeliest next tokens.
        token_RN: those tokens.
        num: continuations wanted; where fewer exist, the rest is -inf.
    """
    sentences, live = log_prob_BW.shape
    per_hypothesis = next_RN.shape[1]
    all_B = (log_prob_BW.unsqueeze(2) + next_RN.view(sentences, live, per_hypothesis)).flatten(1)
    found = min(num, all_B.shape[1])
    log_prob, index = all_B.topk(found, dim=1)
    token = token_RN.view(sentences, -1).gather(1, index)
    origin = index.div(per_hypothesis, rounding_mode="floor")
    missing = (0, num - found)
    return Continuations(F.pad(log_prob, missing, value=-torch.inf), F.pad(origin, missing), F.pad(token, missing))
