"""Scores of given translations by forced decoding: the whole target at once, without search or cache."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from smoe_ds.model.transformer import PAD_ID
from smoe_ds.moe.stats import ModelStats


class ScoringModel(Protocol):
    """What scoring needs of a model."""

    def __call__(self, src: Tensor, tgt_in: Tensor) -> tuple[Tensor, ModelStats]: ...


@torch.inference_mode()
def score_targets(
    model: ScoringModel, src: Tensor, tgt_in: Tensor, tgt_out: Tensor, length_penalty: float, given: int = 0
) -> Tensor:
    """``log p(target | source) / length^length_penalty``, what beam search gives the same target.

    Args:
        model: in evaluation mode.
        src: source token ids [B, S], padded on the right with 0.
        tgt_in: decoder input [B, T].
        tgt_out: target with end of sentence [B, T], which the length counts.
        length_penalty: 0 gives the log-probability itself.
        given: first tokens of ``tgt_out`` that the decoder starts with; they count in the length alone.

    Returns:
        [B], float64.
    """
    logits, _ = model(src, tgt_in)
    log_probs = F.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    real = tgt_out != PAD_ID
    chosen = log_probs.gather(2, tgt_out.unsqueeze(2)).squeeze(2).double()
    return (chosen * real)[:, given:].sum(dim=1) / real.sum(dim=1).double() ** length_penalty
