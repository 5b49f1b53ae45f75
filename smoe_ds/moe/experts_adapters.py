"""Experts that are one feed-forward network and an adapter each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoe_ds.config.experts.adapters import Adapters
from smoe_ds.moe.common import Common
from smoe_ds.moe.experts import ExpertFFN
from smoe_ds.moe.initial import initialize


class Adapter(nn.Module):
    """``u -> u + scale * up gelu(down dropout(u))``. ``up`` starts at 0, so that a new adapter changes nothing.

    Args:
        settings: rank, scale and dropout.
        d_model: width D.

    Source: arXiv 2401.02731, 3.1 and its released code, whose adapters have no biases.
    """

    def __init__(self, settings: Adapters, d_model: int) -> None:
        super().__init__()
        self.settings = settings
        self.down = nn.Parameter(torch.empty(settings.rank, d_model))
        self.up = nn.Parameter(torch.empty(d_model, settings.rank))

    def initialize(self, *name: object, how: str) -> None:
        """Draws ``down``; with ``zero`` as ``linear``."""
        initialize(self.down, None, "linear" if how == "zero" else how, *name, "down")
        nn.init.zeros_(self.up)

    def forward(self, u: Tensor) -> Tensor:
        """[R, D] -> [R, D]."""
        inner = F.gelu(F.linear(F.dropout(u, self.settings.dropout, self.training), self.down))
        return torch.add(u, F.linear(inner, self.up), alpha=self.settings.scale)


class AdapterCommon(ExpertFFN, Common):
    """The feed-forward network that all adapters of a block read; computed once a token, however many it chooses."""

    def __init__(self, settings: Adapters, d_model: int, d_ffn: int, activation: str) -> None:
        super().__init__(d_model, d_ffn, activation)
        self.settings = settings
        self.d_model = d_model

    def expert(self) -> Adapter:
        return Adapter(self.settings, self.d_model)

    def inputs(self, h_TD: Tensor) -> Tensor:
        return self(h_TD)
