"""Feed-forward experts, and the loop that applies them to rows grouped by expert."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoe_ds.moe.seeding import uniform_, xavier_bound

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

    def initialize(self, *name: object) -> None:
        """Draws the weights from a generator seeded by ``name``; biases are zero."""
        bound = xavier_bound(self.w1.shape[1], self.w1.shape[0])
        for key in ("w1", "w3", "w2") if self.activation == "swiglu" else ("w1", "w2"):
            uniform_(getattr(self, key), bound, *name, key)

    def forward(self, x: Tensor) -> Tensor:
        """[R, D] -> [R, D]."""
        hidden = F.linear(x, self.w1, self.b1)
        if self.activation == "swiglu":
            hidden = F.silu(hidden) * F.linear(x, self.w3, self.b3)
        else:
            hidden = F.relu_(hidden) if self.activation == "relu" else F.gelu(hidden)
        return F.linear(hidden, self.w2, self.b2)


def apply_experts(experts: Sequence[nn.Module], rows_RD: Tensor, counts: Sequence[int]) -> Tensor:
    """Applies each expert to its rows, one after the other; any expert, any dtype.

    An expert without rows is applied to an empty tensor, so that its parameters get a (zero) gradient on every rank and
    the engine's gradient reduction sees the same parameters everywhere.

    Args:
        experts: one module [n, D] -> [n, D] per entry of ``counts``.
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
        output = expert(rows)
        if not isinstance(output, Tensor) or output.shape != rows.shape:
            made = list(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
            raise ValueError(
                f"an expert ({type(expert).__name__}) made {made} of {list(rows.shape)}; "
                "it must keep the number of rows and the width"
            )
        outputs.append(output)
    return torch.cat(outputs)
