"""What the experts of a block share, where they are not networks of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from smoe_ds.moe.experts import ReadyFFN

Experts = nn.ModuleDict | Mapping[str, nn.Module | ReadyFFN]
"""What the experts of a rank are computed with, by their number in the block."""


class SharedPart(nn.Module):
    """The shared part of a block's experts, as a forward pass uses it."""

    def inputs(self, h_TD: Tensor) -> Tensor:
        """What the experts read [T, D] of the normalised tokens; once a stratum."""
        return h_TD

    def ready(self, experts: nn.ModuleDict) -> Experts:
        """What the experts are computed with, under the same names; once a forward pass."""
        return experts


class Common(SharedPart, ABC):
    """A shared part that is trained; every rank holds it, and its gradient is summed over all of them."""

    @abstractmethod
    def expert(self) -> nn.Module:
        """One expert's own part, with ``initialize(*name, how=...)``."""

    @abstractmethod
    def initialize(self, *name: object, how: str) -> None:
        """Draws the weights from a generator seeded by ``name``; for ``how`` see :mod:`smoe_ds.moe.initial`."""
