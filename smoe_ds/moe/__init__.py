"""The stratified mixture-of-experts layer and what belongs to it.

Shape letters of this package: ``N`` positions (padding included), ``T`` tokens (positions that are not padding, or the
tokens of one stratum), ``D`` model width, ``F`` feed-forward width, ``E`` experts (of a stratum: those its gate sees),
``L`` strata, ``K`` choices per token, ``P`` = K * T (token, choice) pairs, ``R`` rows, i.e. the pairs that are kept.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smoe_ds.moe.build import stratified_moe
    from smoe_ds.moe.layer import StratifiedMoE
    from smoe_ds.moe.losses import load_balancing_loss, router_z_loss

_PLACES = {
    "StratifiedMoE": "layer",
    "load_balancing_loss": "losses",
    "router_z_loss": "losses",
    "stratified_moe": "build",
}
__all__ = ["StratifiedMoE", "load_balancing_loss", "router_z_loss", "stratified_moe"]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"smoe_ds.moe.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
