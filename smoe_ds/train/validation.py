"""Validation per direction: loss and requested capacity, of the same batches every time, spread over the ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from smoe_ds.data.validation_batches import ValidationBatches
from smoe_ds.model.loss import translation_loss
from smoe_ds.moe.expert_parallel import sum_over_ranks


@dataclass(frozen=True)
class Validation:
    """What a validation found.

    Attributes:
        nll: negative log-likelihood per target token of each direction [nat].
        requested_capacity: mean strata per token, by side and direction, each block of a side counting the same; no
            side without blocks.
    """

    nll: dict[str, float]
    requested_capacity: dict[str, dict[str, float]] = field(default_factory=dict)


def validate(
    model: nn.Module,
    batches: Mapping[str, ValidationBatches],
    device: torch.device,
    sides: Sequence[str] = (),
    progress: Callable[[str], None] = lambda direction: None,
) -> Validation:
    """Loss and requested capacity of each direction, over all ranks. A collective.

    Args:
        model: the bare model; left in the mode it was in.
        batches: fixed batches by direction, the same directions on every rank.
        device: where to compute.
        sides: ``encoder`` or ``decoder`` for each stratified block, in the order of the statistics.
        progress: called with the direction before each batch.
    """
    was_training = model.training
    model.eval()
    sums = []
    with torch.no_grad():
        for direction, of_direction in batches.items():
            nll = torch.zeros((), dtype=torch.float64, device=device)
            routed = torch.zeros(2, len(sides), dtype=torch.float64)  # strata passed, and tokens
            for batch in of_direction:
                progress(direction)
                src, tgt_in, tgt_out = (ids.to(device) for ids in (batch.src, batch.tgt_in, batch.tgt_out))
                logits, stats = model(src, tgt_in, batch.num_src_tokens, batch.num_tgt_tokens)
                nll += translation_loss(logits, tgt_out, 0.0).nll
                routed += torch.tensor([[of.num_passes for of in stats], [of.num_tokens for of in stats]])
            sums.append(torch.cat([nll.view(1), routed.flatten().to(device)]))
    model.train(was_training)
    totals = dict(zip(batches, sum_over_ranks(torch.stack(sums)).tolist(), strict=True))
    capacity: dict[str, dict[str, float]] = {}
    for side in dict.fromkeys(sides):
        places = [place for place, of in enumerate(sides) if of == side]
        capacity[side] = {direction: _capacity(row[1:], places) for direction, row in totals.items()}
    return Validation({name: row[0] / batches[name].num_tgt_tokens for name, row in totals.items()}, capacity)


def _capacity(routed: Sequence[float], places: Sequence[int]) -> float:
    """Mean over blocks of strata passed per token; ``routed`` has the strata of all blocks, then their tokens."""
    tokens = routed[len(routed) // 2 :]
    return sum(routed[place] / max(tokens[place], 1.0) for place in places) / len(places)
