"""The way of one token through a stratified block at evaluation when some experts are gone, expert by expert."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from smoe_ds.moe.layer import StratifiedMoE


def naive_route(layer: StratifiedMoE, x_D: Tensor, removed: Collection[int] = ()) -> tuple[Tensor, list[list[int]]]:
    """Output and, per pass, the chosen experts by logical number, best first.

    Args:
        layer: the whole block; supplies weights and settings (``norm: paper``), its own forward is not used.
        x_D: one token [D].
        removed: logical numbers that no gate may choose.
    """
    strata = layer.placement.strata
    number_of = {e: i for i, size in enumerate(strata) for e in range(sum(strata[:i]), sum(strata[: i + 1]))}
    stratum, x, carried, choices = 0, x_D, x_D, []
    while stratum < len(strata):
        first = sum(strata[:stratum])
        visible = range(first, first + strata[stratum] if layer.stacked else sum(strata))
        h = carried if layer.stacked and stratum else layer.norms[stratum](x)
        logits = {e: float(layer.gates[stratum][e - first] @ h) for e in visible if e not in removed}
        total = sum(torch.tensor(value, dtype=torch.float64).exp().item() for value in logits.values())
        probs = {e: torch.tensor(value, dtype=torch.float64).exp().item() / total for e, value in logits.items()}
        scores = dict(probs)
        if layer.bias_balancing:
            steps = layer.bias_steps()[stratum]
            scores = {e: p + layer.bias_balancing * int(steps[e - first]) for e, p in probs.items()}
        chosen = sorted(scores, key=lambda e: (-scores[e], e))[: layer.top_k]
        renormalise = layer.combine_weights != "raw" and layer.top_k > 1
        weight_sum = sum(probs[e] for e in chosen) if renormalise else 1.0
        y = sum((probs[e] / weight_sum * layer.experts[str(e)](h) for e in chosen), torch.zeros_like(h))
        if stratum == 0 and layer.shared is not None:
            y = y + layer.shared(h)
        choices.append(chosen)
        stratum = stratum + 1 if layer.stacked else number_of[chosen[0]] + 1
        carried = y
        x = x if layer.stacked and stratum < len(strata) else x + y
    return x, choices
