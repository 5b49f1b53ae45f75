"""A stratified block as a loop over tokens around any router, in float64: the oracle of all systems.

A naive router says for one stratum what each token takes; everything else is here. It knows weights by their names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from smoe_ds.config.block import BlockSettings

Weights = Mapping[str, Tensor]
Preference = tuple[int, list[tuple[int, Tensor]]]
"""The expert that decides the next stratum, and what the token takes, most preferred first; visible-expert numbers."""
NaiveRouter = Callable[[int, list[int], list[Tensor]], list[Preference]]
"""``(stratum, positions, normalised tokens) -> one preference for each``."""

NaiveExpert = Callable[[Tensor, Weights, str], Tensor]
"""``(normalised token [D], weights, "experts.3") -> [D]``."""


@dataclass
class NaiveBlockResult:
    """What the loop found.

    Attributes:
        y_ND: output.
        requested_capacity: passes of each position.
        num_dropped: choices that found no room.
        taken: by stratum, the experts that each position takes, by their numbers in the block.
    """

    y_ND: Tensor
    requested_capacity: list[int]
    num_dropped: int = 0
    taken: list[dict[int, list[int]]] = field(default_factory=list)


def naive_block(
    weights: Weights,
    block: BlockSettings,
    router: NaiveRouter,
    x_ND: Tensor,
    *,
    training: bool,
    padding_N: Sequence[bool] | None = None,
    expert: NaiveExpert | None = None,
) -> NaiveBlockResult:
    """The block of a layer with ``norm: paper`` and ReLU experts, token by token.

    Args:
        weights: the layer's ``state_dict(keep_vars=True)``.
        block: its settings; capacity goes by position, first choices first.
        router: what each token takes.
        x_ND: positions, float64.
        training: whether experts have a capacity.
        padding_N: True where a position is padding.
        expert: what an expert makes of a token; None: a feed-forward network.
    """
    through = expert or naive_ffn
    starts = [sum(block.strata[:i]) for i in range(len(block.strata) + 1)]
    x = list(x_ND.unbind())
    stratum_of = {n: 0 for n in range(len(x)) if padding_N is None or not padding_N[n]}
    result = NaiveBlockResult(x_ND, [0] * len(x))
    for i in range(len(block.strata)):
        active = [n for n, stratum in stratum_of.items() if stratum == i]
        h = {n: _layer_norm(x[n], weights, f"norms.{i}") for n in active}
        preferences = dict(zip(active, router(i, active, [h[n] for n in active]), strict=True))
        capacity = math.inf
        if training and "capacity_factor" in block.router.heeds and block.capacity_factor is not None:
            capacity = math.ceil(block.capacity_factor * len(active) / (starts[-1] - starts[i]))
        used: dict[int, int] = {}
        result.taken.append({n: [starts[i] + e for e, _ in preferences[n][1]] for n in active})
        for choice in range(max((len(taken) for _, taken in preferences.values()), default=0)):
            for n in active:
                if choice < len(preferences[n][1]):
                    number, weight = preferences[n][1][choice]
                    used[number] = used.get(number, 0) + 1
                    if used[number] > capacity:
                        result.num_dropped += 1
                    else:
                        x[n] = x[n] + weight * through(h[n], weights, f"experts.{starts[i] + number}")
        for n in active:
            result.requested_capacity[n] += 1
            followed = starts[i] + preferences[n][0]
            stratum_of[n] = next(j for j in range(len(block.strata)) if followed < starts[j + 1]) + 1
    result.y_ND = torch.stack(x) if x else x_ND
    return result


def _layer_norm(x: Tensor, weights: Weights, name: str) -> Tensor:
    mean = x.mean()
    variance = ((x - mean) ** 2).mean()
    return (x - mean) / torch.sqrt(variance + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def naive_ffn(h: Tensor, weights: Weights, name: str) -> Tensor:
    """ReLU network of the weights whose names begin with ``name``."""
    inner = (weights[f"{name}.w1"] @ h + weights[f"{name}.b1"]).clamp(min=0)
    return weights[f"{name}.w2"] @ inner + weights[f"{name}.b2"]
