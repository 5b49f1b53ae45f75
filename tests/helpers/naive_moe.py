"""The stratified block as a loop over tokens, written from the paper's Eq. 4-11: the oracle of the fast layer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from smoe_ds.moe import StratifiedMoE


@dataclass
class NaiveResult:
    y: Tensor
    balance_loss: Tensor
    requested_capacity: list[int]
    num_dropped: int
    tokens_per_stratum: list[int] = field(default_factory=list)


def _layer_norm(x: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    mean = x.mean()
    variance = ((x - mean) ** 2).mean()
    return (x - mean) / torch.sqrt(variance + norm.eps) * norm.weight + norm.bias


def _expert(layer: StratifiedMoE, number: int, h: Tensor) -> Tensor:
    expert = layer.experts[str(number)]
    return torch.relu(expert.w1 @ h + expert.b1) @ expert.w2.T + expert.b2


def _capacity(layer: StratifiedMoE, num_tokens: int, num_visible: int) -> float:
    if not layer.training or layer.capacity_factor is None:
        return math.inf
    return math.ceil(layer.capacity_factor * num_tokens / num_visible)


def _mix(layer: StratifiedMoE, probs: Tensor, chosen: list[int], first: int, kept: list[bool], h: Tensor) -> Tensor:
    """Weighted sum of the kept experts' outputs for one token."""
    if len(chosen) == 1 or layer.combine_weights == "raw":
        total = torch.ones((), dtype=h.dtype)
    elif layer.combine_weights == "before_drop":
        total = sum(probs[e] for e in chosen)
    else:
        total = sum((probs[e] for e, keep in zip(chosen, kept, strict=True) if keep), torch.zeros((), dtype=h.dtype))
    y = torch.zeros_like(h)
    for e, keep in zip(chosen, kept, strict=True):
        if keep:
            y = y + probs[e] / total * _expert(layer, first + e, h)
    return y


def naive_stratified_moe(layer: StratifiedMoE, x_ND: Tensor, padding_N: list[bool]) -> NaiveResult:
    """Same result as ``layer`` (one rank, second expert by argmax), token by token.

    Args:
        layer: supplies weights and settings; its own forward is not used.
        x_ND: [N, D].
        padding_N: True where a position is padding.
    """
    strata = layer.placement.strata
    tokens = [n for n, is_padding in enumerate(padding_N) if not is_padding]
    x = {n: x_ND[n] for n in range(len(padding_N))}
    next_stratum = dict.fromkeys(tokens, 0)
    passes = [0] * len(padding_N)
    losses, num_dropped, sizes = [], 0, []
    for i in range(len(strata)):
        first = sum(strata[:i])
        num_visible = sum(strata[i:])
        active = [n for n in tokens if next_stratum[n] == i]
        sizes.append(len(active))
        h = {n: _layer_norm(x[n], layer.norms[i]) for n in active}
        probs = {n: torch.softmax(layer.gates[i] @ h[n], dim=0) for n in active}
        chosen = {}
        for n in active:
            ranking = sorted(range(num_visible), key=lambda e: (-probs[n][e].item(), e))
            chosen[n] = ranking[: min(layer.top_k, num_visible)]
        capacity = _capacity(layer, len(active), num_visible)
        used = [0] * num_visible
        kept: dict[int, list[bool]] = {n: [] for n in active}
        for choice in range(min(layer.top_k, num_visible)):
            for n in active:
                e = chosen[n][choice]
                kept[n].append(used[e] < capacity)
                used[e] += 1
                num_dropped += not kept[n][-1]
        for n in active:
            y = _mix(layer, probs[n], chosen[n], first, kept[n], h[n])
            x[n] = (h[n] if layer.norm == "released" and i > 0 else x[n]) + y
            passes[n] += 1
            next_stratum[n] = layer.placement.stratum_of(first + chosen[n][0]) + 1
        loss = torch.zeros((), dtype=x_ND.dtype)
        for e in range(num_visible if active else 0):
            share = sum(chosen[n][0] == e for n in active) / len(active)
            loss = loss + num_visible * share * sum(probs[n][e] for n in active) / len(active)
        losses.append(loss)
    if layer.norm == "released":
        x = {n: _layer_norm(value, layer.output_norm) for n, value in x.items()}
    return NaiveResult(
        torch.stack([x[n] for n in range(len(padding_N))]), sum(losses) / len(strata), passes, num_dropped, sizes
    )
