"""The probabilities of a softmax gate, one token at a time, from a layer's weights by name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from smoe_ds.config.block import BlockSettings
from smoe_ds.moe import StratifiedMoE
from tests.helpers.naive_block import NaiveRouter, Preference


def naive_top_k(layer: StratifiedMoE) -> NaiveRouter:
    """The router of a layer whose tokens take the K best, weights as ``before_drop``."""
    weights, top_k = layer.state_dict(keep_vars=True), layer.block.top_k

    def route(stratum: int, positions: list[int], tokens: list[Tensor]) -> list[Preference]:
        found: list[Preference] = []
        for h in tokens:
            probs = naive_softmax(naive_logits(weights, layer.block, stratum, h))
            taken = sorted(range(len(probs)), key=lambda e: -float(probs[e].detach()))[:top_k]
            whole = torch.stack([probs[e] for e in taken]).sum() if top_k > 1 else 1
            found.append((taken[0], [(e, probs[e] / whole) for e in taken]))
        return found

    return route


def naive_logits(weights: Mapping[str, Tensor], block: BlockSettings, stratum: int, h_D: Tensor) -> list[Tensor]:
    """Logits of the experts that the gate of ``stratum`` sees, for scores of either kind."""
    gate = weights[f"gates.{stratum}"]
    if block.gate_scores == "linear":
        return [row @ h_D for row in gate]
    start = f"mixtures.{stratum}.router.cosine"
    temperature = torch.exp(weights[f"{start}.log_temperature"][0])
    return [cosine / temperature for cosine in naive_cosines(gate, weights[f"{start}.directions"], h_D)]


def naive_cosines(gate_dD: Tensor, directions_Ed: Tensor, h_D: Tensor) -> list[Tensor]:
    """``cos(W h, u_e)`` of every expert."""
    token = torch.stack([(row * h_D).sum() for row in gate_dD])
    return [
        (token * other).sum() / ((token * token).sum().sqrt() * (other * other).sum().sqrt()) for other in directions_Ed
    ]


def naive_softmax(logits: list[Tensor]) -> list[Tensor]:
    """Their probabilities."""
    largest = max(float(one.detach()) for one in logits)
    exponentials = [torch.exp(one - largest) for one in logits]
    total = sum(exponentials, torch.zeros((), dtype=torch.float64))
    return [one / total for one in exponentials]
