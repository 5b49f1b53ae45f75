"""Feed-forward experts, and the loop that applies them to rows grouped by expert."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoe_ds.moe.initial import initialize

ACTIVATIONS = ("relu", "gelu", "swiglu")


class ExpertFFN(nn.Module):
    """``act(x w1^T + b1) w2^T + b2``: one expert, also the dense feed-forward network.

    ``swiglu`` is ``(silu(x w1^T + b1) * (x w3^T + b3)) w2^T + b2`` (arXiv 2002.05202). Biases as in the authors' code;
    the paper's equations leave them out.

    Args:
        d_model: width D.
        d_ffn: inner width F.
        activation: ``relu`` as in the paper, ``gelu`` or ``swiglu``.
    """

    def __init__(self, d_model: int, d_ffn: int, activation: str = "relu") -> None:
        super().__init__()
        self.activation = activation
        self.w1 = nn.Parameter(torch.empty(d_ffn, d_model))
        self.b1 = nn.Parameter(torch.zeros(d_ffn))
        if activation == "swiglu":
            self.w3 = nn.Parameter(torch.empty(d_ffn, d_model))
            self.b3 = nn.Parameter(torch.zeros(d_ffn))
        self.w2 = nn.Parameter(torch.empty(d_model, d_ffn))
        self.b2 = nn.Parameter(torch.zeros(d_model))

    def initialize(self, *name: object, how: str) -> None:
        """Draws the weights from a generator seeded by ``name``.

        Args:
            name: of the network.
            how: see :func:`smoe_ds.moe.initial.initialize`; or ``zero``: ``w1`` and ``w3`` as ``linear``, ``w2`` and
                all biases 0, so that the output is 0 at first (as in BASE layers, arXiv 2103.16716).
        """
        for number in (1, 3, 2) if self.activation == "swiglu" else (1, 2):
            weight, bias = getattr(self, f"w{number}"), getattr(self, f"b{number}")
            initialize(weight, bias, "linear" if how == "zero" else how, *name, f"w{number}")
            if how == "zero" and not weight.is_meta:
                nn.init.zeros_(bias)
                if number == 2:
                    nn.init.zeros_(weight)

    def forward(self, x: Tensor) -> Tensor:
        """[R, D] -> [R, D]."""
        return _through(self, x)


@dataclass(frozen=True)
class ReadyFFN:
    """The weights of an expert as :class:`ExpertFFN` has them, where they are made of other parameters."""

    activation: str
    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor
    w3: Tensor | None = None
    b3: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """[R, D] -> [R, D]."""
        return _through(self, x)


def _through(weights: ExpertFFN | ReadyFFN, x: Tensor) -> Tensor:
    hidden, gate = F.linear(x, weights.w1, weights.b1), None
    if weights.activation == "swiglu":
        assert weights.w3 is not None
        gate = F.linear(x, weights.w3, weights.b3)
    return F.linear(activated(weights.activation, hidden, gate), weights.w2, weights.b2)


def activated(activation: str, hidden: Tensor, gate: Tensor | None) -> Tensor:
    """The activation of the first product, which may be written over; for SwiGLU with that of ``w3``."""
    if gate is not None:
        return F.silu(hidden) * gate
    return F.relu_(hidden) if activation == "relu" else F.gelu(hidden)


def apply_experts(experts: Sequence[Callable[[Tensor], Tensor]], rows_RD: Tensor, counts: Sequence[int]) -> Tensor:
    """Applies each expert to its rows, one after the other; any expert, any dtype.

    Where there are gradients, an expert without rows is applied to an empty tensor, so that its parameters get a (zero)
    gradient on every rank and the engine's gradient reduction sees the same parameters everywhere.

    Args:
        experts: one module or function [n, D] -> [n, D] per entry of ``counts``.
        rows_RD: rows grouped by expert, in the order of ``experts``.
        counts: rows per expert; sums to R. May be empty: a rank need not hold an expert of every stratum.

    Returns:
        [R, D], in the order of ``rows_RD``.

    Raises:
        ValueError: an expert returned another shape.
    """
    if not counts:
        return rows_RD
    outputs = []
    for expert, rows in zip(experts, rows_RD.split(list(counts)), strict=True):
        if not rows.shape[0] and not torch.is_grad_enabled():
            continue
        output = expert(rows)
        if not isinstance(output, Tensor) or output.shape != rows.shape:
            made = list(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
            raise ValueError(
                f"an expert ({type(expert).__name__}) made {made} of {list(rows.shape)}; "
                "it must keep the number of rows and the width"
            )
        outputs.append(output)
    return torch.cat(outputs) if outputs else rows_RD
