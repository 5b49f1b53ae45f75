"""The stratified mixture-of-experts layer and what belongs to it.

Shape letters of this package: ``N`` positions (padding included), ``T`` tokens (positions that are not padding, or the
tokens of one stratum), ``D`` model width, ``F`` feed-forward width, ``E`` experts (of a stratum: those its gate sees),
``L`` strata, ``K`` choices per token, ``R`` rows, i.e. kept (token, choice) pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smoe_ds.moe.layer import StratifiedMoE

__all__ = ["StratifiedMoE"]


def __getattr__(name: str) -> Any:
    if name == "StratifiedMoE":
        from smoe_ds.moe.layer import StratifiedMoE

        return StratifiedMoE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
