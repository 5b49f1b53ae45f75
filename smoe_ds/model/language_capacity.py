"""Projections that languages have for themselves, and the gates that choose between them and a shared one.

A sub-layer's output ``h`` becomes ``g h W_language + (1 - g) h W_shared``. The gate ``g`` reads the sub-layer's input:
it is a number between 0 and 1 with noise in training, 0 or 1 in evaluation.

Source: CLSR, Zhang et al., ICLR 2021; the language is the target's in both stacks, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoe_ds.config.language_capacity import FIRST_LANGUAGE_ID, LanguageCapacity
from smoe_ds.moe.initial import initialize


@dataclass
class Languages:
    """What the sub-layers of a stack are told of a batch's languages, and what their gates sum up to.

    Attributes:
        weight_BDD: each sentence's matrix.
        real_BT1: 1 where a position counts, 0 where it is padding; None: no sums are taken.
        noise: standard deviation on the gates in training.
        sums: of each sub-layer's gates over the positions that count, with gradient.
        open: whether sums are still taken; not when a layer is computed again.
    """

    weight_BDD: Tensor
    real_BT1: Tensor | None = None
    noise: float = 0.0
    sums: list[Tensor] = field(default_factory=list)
    open: bool = True

    def count(self, gate_BT1: Tensor) -> None:
        """Takes the sum of a sub-layer's gates."""
        if self.real_BT1 is None:
            return
        total = (gate_BT1 * self.real_BT1).sum(dtype=torch.promote_types(gate_BT1.dtype, torch.float32))
        if self.open:
            self.sums.append(total)

    def close(self) -> Tensor:
        """The sum of all sub-layers' gates, with gradient, and of how many [2]; no sum is taken after."""
        assert self.real_BT1 is not None
        self.open = False
        total = torch.stack(self.sums).sum()
        return torch.stack([total, len(self.sums) * self.real_BT1.sum(dtype=total.dtype)])


class LanguageProjections(nn.Module):
    """The languages' matrices, one set for all sub-layers of a stack.

    Args:
        languages: their number.
        d_model: D.
    """

    def __init__(self, languages: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(languages, d_model, d_model))

    def initialize(self, *name: object) -> None:
        """Xavier, other numbers for every language."""
        for number, weight in enumerate(self.weight):
            initialize(weight, None, "xavier", *name, number)

    def forward(self, language_B: Tensor) -> Tensor:
        """Token ids of languages [B] -> their matrices [B, D, D]; other ids, of sentences without a token, get one of
        them."""
        last = self.weight.shape[0] - 1
        return self.weight.index_select(0, (language_B - FIRST_LANGUAGE_ID).clamp(0, last))


class LanguageGate(nn.Module):
    """What comes after one sub-layer.

    Args:
        d_model: D.
        width: inner width of the gate.
        own: whether the shared projection is its own; else it is the sub-layer's, an attention's output projection.
    """

    def __init__(self, d_model: int, width: int, *, own: bool) -> None:
        super().__init__()
        self.gates = nn.ModuleList([nn.Linear(d_model, width), nn.Linear(width, 1)])
        self.common = nn.Linear(d_model, d_model, bias=False) if own else None

    def initialize(self, *name: object) -> None:
        """Xavier; biases zero."""
        for number, linear in enumerate([*self.gates, *([] if self.common is None else [self.common])]):
            initialize(linear.weight, linear.bias, "xavier", *name, number)

    def forward(
        self, x: Tensor, h: Tensor, languages: Languages, shared: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """[B, T, D] -> [B, T, D].

        Args:
            x: input of the sub-layer, which the gate reads normalised.
            h: output of the sub-layer.
            languages: of the batch.
            shared: the shared projection where it is not the gate's own.
        """
        inner = F.relu(self.gates[0](F.layer_norm(x, x.shape[-1:])))
        score_BT1 = self.gates[1](inner)
        if self.training:
            gate_BT1 = torch.sigmoid(score_BT1 + languages.noise * torch.randn_like(score_BT1))
        else:
            gate_BT1 = (score_BT1 >= 0).to(h.dtype)
        languages.count(gate_BT1)
        project = shared or self.common
        assert project is not None
        return gate_BT1 * torch.bmm(h, languages.weight_BDD.transpose(1, 2)) + (1 - gate_BT1) * project(h)


def language_gate(capacity: LanguageCapacity, d_model: int, *, own: bool) -> LanguageGate | None:
    """The gate of a sub-layer; None where languages have nothing for themselves."""
    return LanguageGate(d_model, capacity.gate_width, own=own) if capacity.languages else None
