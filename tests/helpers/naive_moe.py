"""The stratified block as a loop over tokens, written from the paper and the sources of its options: the oracle.

It knows weights by their names and settings by their values, and never asks a layer how it behaves: what a layer was
given and forgot shows as a difference.

Random options draw their noise as the layer documents it: per stratum, for its tokens in order, jitter [T, D], then the
draw of the second expert [T, E], output masking [T, K], dropout by (choice, token) [K * T, D]; after the first stratum
the shared expert's dropout [T, D] and CMR's gate dropout [T, 1]; at last final output masking [T, 1]. Seeded alike,
loop and layer see the same noise.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]
_NORM_EPSILON = 1e-5


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a block is told to do, with the defaults that its documentation promises."""

    strata: Sequence[int]
    top_k: int = 2
    activation: str = "relu"
    dropout: float = 0.0
    norm: str = "paper"
    combine_weights: str = "after_drop"
    second_expert: str = "sample"
    capacity_factor: float | None = 2.0
    capacity_order: str = "position"
    stacked: bool = False
    expert_output_masking: float = 0.0
    final_output_masking: float = 0.0
    shared_expert: str = "none"
    cmr_gate_dropout: float = 0.1
    jitter: float = 0.0
    gating_dropout: float = 0.0
    gating_dropout_mode: str = "skip"
    bias_balancing: float = 0.0

    def stratum_of(self, expert: int) -> int:
        """The stratum that holds an expert, by its number in the whole block."""
        return next(i for i in range(len(self.strata)) if expert < sum(self.strata[: i + 1]))


@dataclass
class NaiveResult:
    """What the loop found.

    Attributes:
        y: output [N, D].
        balance_loss: mean over the strata.
        requested_capacity: passes of each position.
        num_dropped: choices that found no room.
        choices: of each position, the experts chosen in each of its passes, best first, by their numbers in the block.
        entropies: of each position, the entropy of the gate in each of its passes [nat].
        tokens_per_stratum: tokens that entered each stratum.
        z_loss: mean over the strata.
        cmr_gate_sum: sum of CMR's gate over the tokens; None without CMR.
    """

    y: Tensor
    balance_loss: Tensor
    requested_capacity: list[int]
    num_dropped: int
    choices: list[list[list[int]]]
    entropies: list[list[float]]
    tokens_per_stratum: list[int] = field(default_factory=list)
    z_loss: Tensor = field(default_factory=lambda: torch.zeros(()))
    cmr_gate_sum: Tensor | None = None


def _layer_norm(x: Tensor, weights: Weights, name: str) -> Tensor:
    mean = x.mean()
    variance = ((x - mean) ** 2).mean()
    return (x - mean) / torch.sqrt(variance + _NORM_EPSILON) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _ffn(h: Tensor, weights: Weights, name: str, activation: str) -> Tensor:
    inner = weights[f"{name}.w1"] @ h + weights[f"{name}.b1"]
    if activation == "relu":
        inner = inner.clamp(min=0)
    elif activation == "gelu":
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    else:
        inner = inner * torch.sigmoid(inner) * (weights[f"{name}.w3"] @ h + weights[f"{name}.b3"])
    return weights[f"{name}.w2"] @ inner + weights[f"{name}.b2"]


def _capacity(settings: Settings, training: bool, num_tokens: int, num_visible: int) -> float:
    if not training or settings.capacity_factor is None:
        return math.inf
    return math.ceil(settings.capacity_factor * num_tokens / num_visible)


def _ranking(scores: Tensor, noise: Tensor | None, top_k: int) -> list[int]:
    """The best expert, then the others by score, or by score over noise."""
    by_score = sorted(range(len(scores)), key=lambda e: (-scores[e].item(), e))
    others = scores if noise is None else scores.clamp(min=1e-9) / noise
    rest = sorted(by_score[1:], key=lambda e: (-others[e].item(), e))
    return [by_score[0], *rest[: top_k - 1]]


def _kept(settings: Settings, active: list[int], chosen: dict, probs: dict, capacity: float) -> dict[int, list[bool]]:
    """Whether each choice of each token finds room."""
    order = active
    if settings.capacity_order == "probability" and capacity != math.inf:
        order = sorted(active, key=lambda n: -probs[n][chosen[n][0]].item())  # stable: ties by position
    used: dict[int, int] = {}
    kept: dict[int, list[bool]] = {n: [] for n in active}
    for choice in range(settings.top_k):
        for n in order:
            e = chosen[n][choice]
            kept[n].append(used.get(e, 0) < capacity)
            used[e] = used.get(e, 0) + 1
    return kept


def _weight(settings: Settings, probs: Tensor, expert: int, chosen: list[int], kept: list[bool]) -> Tensor:
    """The weight of an expert's output: its probability over those that count, or 1."""
    if settings.combine_weights == "ones":
        return torch.ones((), dtype=probs.dtype)
    if settings.top_k == 1 or settings.combine_weights == "raw":
        return probs[expert]
    counted = [e for e, keep in zip(chosen, kept, strict=True) if keep or settings.combine_weights == "before_drop"]
    return probs[expert] / sum((probs[e] for e in counted), torch.zeros((), dtype=probs.dtype))


def _output_noise(settings: Settings, training: bool, T: int, D: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What outputs are multiplied by: per token and choice (masking), and per choice, token and element (dropout)."""
    K, masking, dropout = settings.top_k, settings.expert_output_masking, settings.dropout
    factor_TK = torch.ones(T, K, dtype=dtype)
    if masking:
        factor_TK *= 1 - masking
        if training:
            factor_TK = torch.empty(T, K, dtype=dtype).bernoulli_(1 - masking)
    drop_PD = torch.ones(K * T, D, dtype=dtype)
    if training and dropout:
        drop_PD = torch.empty(K * T, D, dtype=torch.bool).bernoulli_(1 - dropout).to(dtype) / (1 - dropout)
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


def _jittered(settings: Settings, training: bool, h: dict, width: int, dtype: torch.dtype) -> dict:
    """What the gate reads of each token."""
    if not (training and settings.jitter):
        return h
    factor = torch.empty(len(h), width, dtype=dtype).uniform_(1 - settings.jitter, 1 + settings.jitter)
    return {n: value * factor[t] for t, (n, value) in enumerate(h.items())}


def _finally_masked(settings: Settings, training: bool, y: dict, dtype: torch.dtype) -> dict:
    """The mixed output of each token after final output masking."""
    if not settings.final_output_masking:
        return y
    factor_T = torch.full((len(y),), 1 - settings.final_output_masking, dtype=dtype)
    if training:
        factor_T = torch.empty(len(y), 1, dtype=dtype).bernoulli_(1 - settings.final_output_masking)[:, 0]
    return {n: value * factor_T[t] for t, (n, value) in enumerate(y.items())}


def _routed(
    weights: Weights, settings: Settings, h: dict, choice: tuple[dict, dict, dict], experts: list[int], noise: tuple
) -> dict:
    """The weighted sum of each token's experts."""
    (probs, chosen, kept), (factor_TK, drop_PD) = choice, noise
    y = {n: torch.zeros_like(h[n]) for n in h}
    for t, n in enumerate(h):
        for k, e in enumerate(chosen[n]):
            if kept[n][k]:
                out = _ffn(h[n], weights, f"experts.{experts[e]}", settings.activation) * drop_PD[k * len(h) + t]
                y[n] = y[n] + factor_TK[t, k] * _weight(settings, probs[n], e, chosen[n], kept[n]) * out
    return y


def naive_stratified_moe(
    weights: Weights,
    settings: Settings,
    x_ND: Tensor,
    padding_N: Sequence[bool] | None = None,
    *,
    training: bool = False,
    removed: Collection[int] = (),
) -> NaiveResult:
    """What a block on one rank must compute, token by token.

    Args:
        weights: parameters and balancing biases by their names in the block, e.g. ``experts.3.w1``.
        settings: what the block was told to do.
        x_ND: [N, D].
        padding_N: True where a position is padding; None: nowhere.
        training: whether noise is drawn and experts have a capacity.
        removed: experts that no gate may choose, by their numbers in the block.
    """
    strata, dtype, D, K = settings.strata, x_ND.dtype, x_ND.shape[1], settings.top_k
    padding_N = [False] * len(x_ND) if padding_N is None else padding_N
    tokens = [n for n, is_padding in enumerate(padding_N) if not is_padding]
    if training and settings.gating_dropout > 0 and torch.rand(()).item() < settings.gating_dropout:
        tokens = [] if settings.gating_dropout_mode == "skip" else tokens
    x = {n: x_ND[n] for n in range(len(padding_N))}
    carried: dict[int, Tensor] = {}
    next_stratum = dict.fromkeys(tokens, 0)
    choices: list[list[list[int]]] = [[] for _ in padding_N]
    entropies: list[list[float]] = [[] for _ in padding_N]
    losses, z_losses, num_dropped, sizes, gate_sum = [], [], 0, [], None
    for i in range(len(strata)):
        first = sum(strata[:i])
        visible = range(first, first + strata[i] if settings.stacked else sum(strata))
        experts = [e for e in visible if e not in removed]  # from here on, an expert is a place in this list
        rows = [e - first for e in experts]
        active = [n for n in tokens if next_stratum[n] == i]
        T = len(active)
        row = {n: t for t, n in enumerate(active)}
        sizes.append(T)
        h = {n: carried[n] if settings.stacked and i > 0 else _layer_norm(x[n], weights, f"norms.{i}") for n in active}
        gate_input = _jittered(settings, training, h, D, dtype)
        logits = {n: weights[f"gates.{i}"][rows] @ gate_input[n] for n in active}
        probs = {n: torch.exp(logits[n]) / torch.exp(logits[n]).sum() for n in active}
        bias: Tensor | float = 0.0
        if settings.bias_balancing:
            bias = settings.bias_balancing * weights[f"balance_steps_{i}"][rows].to(dtype)
        drawn = training and settings.second_expert == "sample" and K > 1
        noise = torch.empty(T, len(experts), dtype=dtype).exponential_() if drawn else None
        chosen = {n: _ranking(probs[n].detach() + bias, None if noise is None else noise[row[n]], K) for n in active}
        kept = _kept(settings, active, chosen, probs, _capacity(settings, training, T, len(experts)))
        num_dropped += sum(not keep for n in active for keep in kept[n])
        noise_of_outputs = _output_noise(settings, training, T, D, dtype)
        y = _routed(weights, settings, h, (probs, chosen, kept), experts, noise_of_outputs)
        if i == 0 and settings.shared_expert != "none":
            y, gate_sum = _shared(weights, settings, training, h, y, active)
        y = _finally_masked(settings, training, y, dtype)
        for n in active:
            choices[n].append([experts[e] for e in chosen[n]])
            entropies[n].append(-sum(p * math.log(p) for p in probs[n].tolist() if p > 0))
            next_stratum[n] = i + 1 if settings.stacked else settings.stratum_of(experts[chosen[n][0]]) + 1
            if settings.stacked and i < len(strata) - 1:
                carried[n] = y[n]
            else:
                x[n] = (h[n] if settings.norm == "released" and i > 0 and not settings.stacked else x[n]) + y[n]
        loss, z_loss = _losses(active, chosen, probs, logits, len(experts), dtype)
        losses.append(loss)
        z_losses.append(z_loss)
    if settings.norm == "released":
        x = {n: _layer_norm(value, weights, "output_norm") for n, value in x.items()}
    return NaiveResult(
        torch.stack([x[n] for n in range(len(padding_N))]) if x else x_ND,
        sum(losses) / len(strata),
        [len(passes) for passes in choices],
        num_dropped,
        choices,
        entropies,
        sizes,
        sum(z_losses) / len(strata),
        gate_sum,
    )


def _shared(
    weights: Weights, settings: Settings, training: bool, h: dict, y: dict, active: list[int]
) -> tuple[dict, Tensor | None]:
    """The first stratum's output with that of the shared expert; the sum of CMR's gate."""
    weight = weights["gates.0"]
    T, D, dtype = len(active), weight.shape[1], weight.dtype
    scale = torch.ones(T, D, dtype=dtype)
    if training and settings.dropout:
        scale = torch.empty(T, D, dtype=dtype).bernoulli_(1 - settings.dropout) / (1 - settings.dropout)
    shared = {n: _ffn(h[n], weights, "shared", settings.activation) * scale[t] for t, n in enumerate(active)}
    if settings.shared_expert == "add":
        return {n: y[n] + shared[n] for n in active}, None
    if settings.shared_expert == "residual":
        scores = {n: torch.exp(weights["coefficient.weight"] @ h[n] + weights["coefficient.bias"]) for n in active}
        return {n: (scores[n][0] * y[n] + scores[n][1] * shared[n]) / scores[n].sum() for n in active}, None
    gates = {n: torch.sigmoid(weights["cmr_gate.weight"][0] @ h[n] + weights["cmr_gate.bias"][0]) for n in active}
    open_T = torch.ones(T, dtype=dtype)
    if training and settings.cmr_gate_dropout:
        open_T = torch.empty(T, 1, dtype=dtype).bernoulli_(1 - settings.cmr_gate_dropout)[:, 0]
    mixed = {}
    for t, n in enumerate(active):
        g = gates[n] * open_T[t]
        mixed[n] = g * y[n] + (1 - g) * shared[n]
    return mixed, sum(gates.values(), torch.zeros((), dtype=dtype))
