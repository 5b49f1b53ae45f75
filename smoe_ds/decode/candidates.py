"""One step of beam search as tensor arithmetic: from logits to the best continuations of each sentence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from smoe_ds.decode.constraints import Allowed

_PIECE = 128  # values


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


def token_log_probs(logits_RV: Tensor, num: int, allowed: Allowed) -> tuple[Tensor, Tensor]:
    """The ``num`` likeliest next tokens of each row and their log-probabilities, in float32 or wider.

    Tokens that may not come are left out after normalisation: a score is the model's own probability.

    Args:
        logits_RV: of the next token.
        num: tokens wanted per row.
        allowed: what may come next.

    Returns:
        Log-probabilities and token ids [R, min(num, V)], best first, -inf where not allowed.
    """
    wide = torch.promote_types(logits_RV.dtype, torch.float32)
    log_prob_RV = logits_RV.log_softmax(dim=1, dtype=wide)
    only_R1 = log_prob_RV.gather(1, allowed.only_or_eos_R.unsqueeze(1))
    allowed.mask(log_prob_RV)
    log_prob, token = largest(log_prob_RV, min(num, log_prob_RV.shape[1]))
    is_only_R = allowed.is_only(log_prob[:, 0])
    log_prob = log_prob.masked_fill(is_only_R.unsqueeze(1), -torch.inf)
    log_prob[:, :1] = torch.where(is_only_R.unsqueeze(1), only_R1, log_prob[:, :1])
    token[:, 0] = torch.where(is_only_R, allowed.only_or_eos_R, token[:, 0])
    return log_prob, token


def largest(values_RV: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """``topk`` of each row; which of equal values come first is open there too.

    On the processor only the pieces with the ``num`` largest maxima are looked at: whatever is among the ``num``
    largest values is in one of these, or equals a value that is.

    Args:
        values_RV: any numbers; NaN counts as the largest.
        num: values wanted per row, at most V.

    Returns:
        Values and places [R, num], largest first.
    """
    whole = values_RV.shape[1] // _PIECE
    if values_RV.device.type != "cpu" or whole < 4 * num:
        return values_RV.topk(num, dim=1)
    pieces_RCP = values_RV[:, : whole * _PIECE].unflatten(1, (whole, _PIECE))
    best_RN = pieces_RCP.amax(dim=2).topk(num, dim=1).indices
    found = pieces_RCP.gather(1, best_RN.unsqueeze(2).expand(-1, -1, _PIECE)).flatten(1)
    value, place = torch.cat([found, values_RV[:, whole * _PIECE :]], dim=1).topk(num, dim=1)
    piece = F.pad(best_RN, (0, 1), value=whole).gather(1, place.div(_PIECE, rounding_mode="floor"))
    return value, piece * _PIECE + place % _PIECE


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
