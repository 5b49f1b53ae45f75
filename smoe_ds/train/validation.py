"""Validation loss per direction, the same batches every time, spread over the ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from smoe_ds.data.validation_batches import ValidationBatches
from smoe_ds.model.loss import translation_loss
from smoe_ds.moe.expert_parallel import sum_over_ranks


def validation_nll(
    model: nn.Module,
    batches: Mapping[str, ValidationBatches],
    device: torch.device,
    progress: Callable[[str], None] = lambda direction: None,
) -> dict[str, float]:
    """Negative log-likelihood per target token [nat] of each direction, over all ranks. A collective.

    Args:
        model: the bare model; left in the mode it was in.
        batches: fixed batches by direction, the same directions on every rank.
        device: where to compute.
        progress: called with the direction before each batch.
    """
    was_training = model.training
    model.eval()
    sums = []
    with torch.no_grad():
        for direction, of_direction in batches.items():
            nll = torch.zeros((), dtype=torch.float64, device=device)
            for batch in of_direction:
                progress(direction)
                src, tgt_in, tgt_out = (ids.to(device) for ids in (batch.src, batch.tgt_in, batch.tgt_out))
                logits, _ = model(src, tgt_in, batch.num_src_tokens, batch.num_tgt_tokens)
                nll += translation_loss(logits, tgt_out, 0.0).nll
            sums.append(nll)
    model.train(was_training)
    totals = sum_over_ranks(torch.stack(sums)).tolist()
    return {
        direction: total / of_direction.num_tgt_tokens
        for (direction, of_direction), total in zip(batches.items(), totals, strict=True)
    }
