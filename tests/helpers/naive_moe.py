"""The stratified block as a loop over tokens, written from the paper and the sources of its options: the oracle.

Random options draw their noise as the layer documents it: per stratum, for its tokens in order, jitter [T, D], then the
draw of the second expert [T, E], output masking [T, K], dropout by (choice, token) [K * T, D]; after the first stratum
the shared expert's dropout [T, D] and CMR's gate dropout [T, 1]. Seeded alike, loop and layer see the same noise.
"""

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
    z_loss: Tensor = field(default_factory=lambda: torch.zeros(()))
    cmr_gate_sum: Tensor | None = None


def _layer_norm(x: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    mean = x.mean()
    variance = ((x - mean) ** 2).mean()
    return (x - mean) / torch.sqrt(variance + norm.eps) * norm.weight + norm.bias


def _ffn(expert: torch.nn.Module, h: Tensor) -> Tensor:
    inner = expert.w1 @ h + expert.b1
    if expert.activation == "relu":
        inner = inner.clamp(min=0)
    elif expert.activation == "gelu":
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    else:
        inner = inner * torch.sigmoid(inner) * (expert.w3 @ h + expert.b3)
    return expert.w2 @ inner + expert.b2


def _capacity(layer: StratifiedMoE, num_tokens: int, num_visible: int) -> float:
    if not layer.training or layer.capacity_factor is None:
        return math.inf
    return math.ceil(layer.capacity_factor * num_tokens / num_visible)


def _ranking(scores: Tensor, noise: Tensor | None, top_k: int) -> list[int]:
    """The best expert, then the others by score, or by score over noise."""
    by_score = sorted(range(len(scores)), key=lambda e: (-scores[e].item(), e))
    others = scores if noise is None else scores.clamp(min=1e-9) / noise
    rest = sorted(by_score[1:], key=lambda e: (-others[e].item(), e))
    return [by_score[0], *rest[: top_k - 1]]


def _kept(layer: StratifiedMoE, active: list[int], chosen: dict, probs: dict, capacity: float) -> dict[int, list[bool]]:
    """Whether each choice of each token finds room."""
    order = active
    if layer.capacity_order == "probability" and capacity != math.inf:
        order = sorted(active, key=lambda n: -probs[n][chosen[n][0]].item())  # stable: ties by position
    used: dict[int, int] = {}
    kept: dict[int, list[bool]] = {n: [] for n in active}
    for choice in range(layer.top_k):
        for n in order:
            e = chosen[n][choice]
            kept[n].append(used.get(e, 0) < capacity)
            used[e] = used.get(e, 0) + 1
    return kept


def _total(layer: StratifiedMoE, probs: Tensor, chosen: list[int], kept: list[bool]) -> Tensor:
    """What the probabilities of the choices are divided by."""
    if len(chosen) == 1 or layer.combine_weights == "raw":
        return torch.ones((), dtype=probs.dtype)
    counted = [e for e, keep in zip(chosen, kept, strict=True) if keep or layer.combine_weights == "before_drop"]
    return sum((probs[e] for e in counted), torch.zeros((), dtype=probs.dtype))


def _output_noise(layer: StratifiedMoE, T: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What outputs are multiplied by: per token and choice (masking), and per choice, token and element (dropout)."""
    K, D = layer.top_k, layer.d_model
    factor_TK = torch.ones(T, K, dtype=dtype)
    if layer.expert_output_masking:
        factor_TK *= 1 - layer.expert_output_masking
        if layer.training:
            factor_TK = torch.empty(T, K, dtype=dtype).bernoulli_(1 - layer.expert_output_masking)
    drop_PD = torch.ones(K * T, D, dtype=dtype)
    if layer.training and layer.dropout:
        drop_PD = torch.empty(K * T, D, dtype=torch.bool).bernoulli_(1 - layer.dropout).to(dtype) / (1 - layer.dropout)
    return factor_TK, drop_PD


def _losses(
    active: list[int], chosen: dict, probs: dict, logits: dict, num_visible: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Balance loss and z-loss of one stratum."""
    loss, z_loss, T = torch.zeros((), dtype=dtype), torch.zeros((), dtype=dtype), len(active)
    for e in range(num_visible if active else 0):
        share = sum(chosen[n][0] == e for n in active) / T
        loss = loss + num_visible * share * sum(probs[n][e] for n in active) / T
    for n in active:
        z_loss = z_loss + torch.log(torch.exp(logits[n]).sum()) ** 2 / T
    return loss, z_loss


def naive_stratified_moe(layer: StratifiedMoE, x_ND: Tensor, padding_N: list[bool]) -> NaiveResult:
    """Same result as ``layer`` on one rank, token by token.

    Args:
        layer: supplies weights and settings; its own forward is not used.
        x_ND: [N, D].
        padding_N: True where a position is padding.
    """
    strata, dtype, D, K = layer.placement.strata, x_ND.dtype, x_ND.shape[1], layer.top_k
    tokens = [n for n, is_padding in enumerate(padding_N) if not is_padding]
    if layer.training and layer.gating_dropout > 0 and torch.rand(()).item() < layer.gating_dropout:
        tokens = [] if layer.gating_dropout_mode == "skip" else tokens
    x = {n: x_ND[n] for n in range(len(padding_N))}
    carried: dict[int, Tensor] = {}
    next_stratum = dict.fromkeys(tokens, 0)
    passes = [0] * len(padding_N)
    losses, z_losses, num_dropped, sizes, gate_sum = [], [], 0, [], None
    for i in range(len(strata)):
        first = sum(strata[:i])
        num_visible = strata[i] if layer.stacked else sum(strata[i:])
        active = [n for n in tokens if next_stratum[n] == i]
        T = len(active)
        row = {n: t for t, n in enumerate(active)}
        sizes.append(T)
        h = {n: carried[n] if layer.stacked and i > 0 else _layer_norm(x[n], layer.norms[i]) for n in active}
        gate_input = dict(h)
        if layer.training and layer.jitter:
            factor = torch.empty(T, D, dtype=dtype).uniform_(1 - layer.jitter, 1 + layer.jitter)
            gate_input = {n: h[n] * factor[row[n]] for n in active}
        logits = {n: layer.gates[i] @ gate_input[n] for n in active}
        probs = {n: torch.exp(logits[n]) / torch.exp(logits[n]).sum() for n in active}
        bias = layer.bias_balancing * layer.bias_steps()[i].to(dtype) if layer.bias_balancing else 0.0
        noise = None
        if layer.training and layer.second_expert == "sample" and K > 1:
            noise = torch.empty(T, num_visible, dtype=dtype).exponential_()
        chosen = {n: _ranking(probs[n].detach() + bias, None if noise is None else noise[row[n]], K) for n in active}
        kept = _kept(layer, active, chosen, probs, _capacity(layer, T, num_visible))
        num_dropped += sum(not keep for n in active for keep in kept[n])
        factor_TK, drop_PD = _output_noise(layer, T, dtype)
        y = {}
        for n in active:
            total = _total(layer, probs[n], chosen[n], kept[n])
            y[n] = torch.zeros_like(h[n])
            for k, e in enumerate(chosen[n]):
                if kept[n][k]:
                    out = _ffn(layer.experts[str(first + e)], h[n]) * drop_PD[k * T + row[n]]
                    y[n] = y[n] + factor_TK[row[n], k] * probs[n][e] / total * out
        if i == 0 and layer.shared is not None:
            y, gate_sum = _shared(layer, h, y, active)
        for n in active:
            passes[n] += 1
            next_stratum[n] = i + 1 if layer.stacked else layer.placement.stratum_of(first + chosen[n][0]) + 1
            if layer.stacked and i < len(strata) - 1:
                carried[n] = y[n]
            else:
                x[n] = (h[n] if layer.norm == "released" and i > 0 and not layer.stacked else x[n]) + y[n]
        loss, z_loss = _losses(active, chosen, probs, logits, num_visible, dtype)
        losses.append(loss)
        z_losses.append(z_loss)
    if layer.norm == "released":
        x = {n: _layer_norm(value, layer.output_norm) for n, value in x.items()}
    return NaiveResult(
        torch.stack([x[n] for n in range(len(padding_N))]) if x else x_ND,
        sum(losses) / len(strata),
        passes,
        num_dropped,
        sizes,
        sum(z_losses) / len(strata),
        gate_sum,
    )


def _shared(layer: StratifiedMoE, h: dict, y: dict, active: list[int]) -> tuple[dict, Tensor | None]:
    """The first stratum's output with that of the shared expert; the sum of CMR's gate."""
    T, D = len(active), layer.d_model
    dtype = layer.gates[0].dtype
    scale = torch.ones(T, D, dtype=dtype)
    if layer.training and layer.dropout:
        scale = torch.empty(T, D, dtype=dtype).bernoulli_(1 - layer.dropout) / (1 - layer.dropout)
    shared = {n: _ffn(layer.shared, h[n]) * scale[t] for t, n in enumerate(active)}
    if layer.cmr_gate is None:
        return {n: y[n] + shared[n] for n in active}, None
    gates = {n: torch.sigmoid(layer.cmr_gate.weight[0] @ h[n] + layer.cmr_gate.bias[0]) for n in active}
    open_T = torch.ones(T, dtype=dtype)
    if layer.training and layer.cmr_gate_dropout:
        open_T = torch.empty(T, 1, dtype=dtype).bernoulli_(1 - layer.cmr_gate_dropout)[:, 0]
    mixed = {}
    for t, n in enumerate(active):
        g = gates[n] * open_T[t]
        mixed[n] = g * y[n] + (1 - g) * shared[n]
    return mixed, sum(gates.values(), torch.zeros((), dtype=dtype))
