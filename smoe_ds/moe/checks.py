"""Arguments and inputs of a stratified layer: what cannot work is refused with the remedy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from smoe_ds.moe.expert_backends import BACKENDS
from smoe_ds.moe.experts import ACTIVATIONS

CHOICES = {
    "activation": ACTIVATIONS,
    "norm": ("paper", "released"),
    "combine_weights": ("after_drop", "before_drop", "raw"),
    "second_expert": ("sample", "argmax"),
    "capacity_order": ("position", "probability"),
    "shared_expert": ("none", "add", "cmr"),
    "gating_dropout_mode": ("skip", "local"),
    "expert_backend": BACKENDS,
}
SHARES = ("dropout", "expert_output_masking", "cmr_gate_dropout", "jitter", "gating_dropout")


def check_sizes(
    d_model: int, d_ffn: int, strata: Sequence[int], top_k: int, ep_size: int, exchange_chunks: int, stacked: bool
) -> None:
    """Refuses sizes that no layer can have.

    Raises:
        ValueError: says which argument, what it is and what it could be.
    """
    sizes = {"d_model": d_model, "d_ffn": d_ffn, "top_k": top_k, "ep_size": ep_size, "exchange_chunks": exchange_chunks}
    for name, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; expected a whole number of 1 or more")
    if not isinstance(strata, Sequence) or not strata or any(not isinstance(n, int) or n < 1 for n in strata):
        raise ValueError(f"strata {strata!r}: expected at least one expert for every stratum, e.g. [4, 12]")
    fewest = min(strata) if stacked else strata[-1]
    if top_k > fewest:
        raise ValueError(
            f"top_k {top_k} is above the {fewest} experts that a gate of strata {list(strata)} sees; "
            f"set top_k to {fewest} or less, or give that stratum more experts"
        )
    num_experts = sum(strata)
    if num_experts % ep_size:
        divisors = [n for n in range(1, num_experts + 1) if num_experts % n == 0]
        raise ValueError(f"ep_size {ep_size} does not divide the {num_experts} experts; choose one of {divisors}")


def check_settings(settings: Mapping[str, object]) -> None:
    """Refuses unknown names of choices and shares outside [0, 1).

    Args:
        settings: the layer's keyword arguments by name.

    Raises:
        ValueError: says which argument, what it is and what it could be.
    """
    for name, allowed in CHOICES.items():
        if settings[name] not in allowed:
            raise ValueError(f"{name} is {settings[name]!r}; expected one of {', '.join(allowed)}")
    for name in SHARES:
        share = settings[name]
        if not isinstance(share, int | float) or not 0 <= share < 1:
            raise ValueError(f"{name} is {share!r}; expected a number from 0 to below 1")
    capacity_factor, rate = settings["capacity_factor"], settings["bias_balancing"]
    if capacity_factor is not None and not (
        isinstance(capacity_factor, int | float) and 0 < capacity_factor < math.inf
    ):
        raise ValueError(f"capacity_factor is {capacity_factor!r}; expected a number above 0, or None for no limit")
    if not isinstance(rate, int | float) or not 0 <= rate < math.inf:
        raise ValueError(f"bias_balancing is {rate!r}; expected a number of 0 (off) or more, e.g. 0.001")


def check_ep_rank(ep_rank: int, ep_size: int) -> None:
    """Refuses a rank outside the expert-parallel group.

    Raises:
        ValueError: says which ranks there are.
    """
    if not isinstance(ep_rank, int) or not 0 <= ep_rank < ep_size:
        raise ValueError(
            f"ep_rank is {ep_rank!r}; with ep_size {ep_size} expected a whole number from 0 to {ep_size - 1}"
        )


def make_experts(make: Callable[[], nn.Module], number: int) -> list[nn.Module]:
    """So many experts, each a module of its own.

    Raises:
        ValueError: ``make`` is a module itself, or makes something else, or the same module twice.
    """
    if isinstance(make, nn.Module):
        raise ValueError(
            f"expert is a {type(make).__name__}; expected a function that makes one, e.g. expert=lambda: ..."
        )
    made = [make() for _ in range(number)]
    for expert in made:
        if not isinstance(expert, nn.Module):
            raise ValueError(f"expert() made a {type(expert).__name__}; expected an nn.Module from [n, D] to [n, D]")
    if len(set(map(id, made))) < number:
        raise ValueError(
            "expert() returned the same module twice; make a new one at every call, or experts share weights"
        )
    return made


def check_input(x: Tensor, padding_mask: Tensor | None, num_tokens: int | None, d_model: int) -> None:
    """Refuses an input of another width or kind, a mask of another shape or kind, and a number that cannot be.

    Raises:
        ValueError: says what was expected.
    """
    if x.dim() < 1 or x.shape[-1] != d_model:
        raise ValueError(f"x has shape {list(x.shape)}; its last dimension must be d_model {d_model}")
    if not x.is_floating_point():
        raise ValueError(f"x is {x.dtype}; expected floating-point numbers")
    if padding_mask is not None and padding_mask.shape != x.shape[:-1]:
        raise ValueError(f"padding_mask has shape {list(padding_mask.shape)}; expected {list(x.shape[:-1])}")
    if padding_mask is not None and padding_mask.dtype != torch.bool:
        raise ValueError(f"padding_mask is {padding_mask.dtype}; expected torch.bool, True where a position is padding")
    positions = x.shape[:-1].numel()
    if num_tokens is not None and not (0 if padding_mask is not None else positions) <= num_tokens <= positions:
        raise ValueError(f"num_tokens is {num_tokens}, but x has {positions} positions; leave it out without padding")
