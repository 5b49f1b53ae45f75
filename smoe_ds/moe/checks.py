"""Arguments of a stratified layer: what cannot work is refused with the remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from smoe_ds.moe.backends import BACKENDS
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
    """Refuse sizes that no layer can have.

    Raises:
        ValueError: says which argument, what it is and what it could be.
    """
    sizes = {"d_model": d_model, "d_ffn": d_ffn, "top_k": top_k, "ep_size": ep_size, "exchange_chunks": exchange_chunks}
    for name, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; expected a whole number of 1 or more")
    if not strata or any(not isinstance(n, int) or n < 1 for n in strata):
        raise ValueError(f"strata {list(strata)}: every stratum needs at least one expert, e.g. [4, 12]")
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
    """Refuse unknown names of choices and shares outside [0, 1).

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
    if capacity_factor is not None and not (isinstance(capacity_factor, int | float) and capacity_factor > 0):
        raise ValueError(f"capacity_factor is {capacity_factor!r}; expected a number above 0, or None for no limit")
    if not isinstance(rate, int | float) or rate < 0:
        raise ValueError(f"bias_balancing is {rate!r}; expected a number of 0 (off) or more, e.g. 0.001")


def check_input(x: Tensor, padding_mask: Tensor | None, d_model: int) -> None:
    """Refuse an input of another width and a mask of another shape.

    Raises:
        ValueError: names both shapes.
    """
    if x.dim() < 1 or x.shape[-1] != d_model:
        raise ValueError(f"x has shape {list(x.shape)}; its last dimension must be d_model {d_model}")
    if padding_mask is not None and padding_mask.shape != x.shape[:-1]:
        raise ValueError(f"padding_mask has shape {list(padding_mask.shape)}; expected {list(x.shape[:-1])}")
