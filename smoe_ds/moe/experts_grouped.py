"""Experts as grouped matrix products: one kernel for all experts of a stratum."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from smoe_ds.moe.experts import ExpertFFN, ReadyFFN
from smoe_ds.text_line import first_line


@lru_cache
def grouped_mm_problem(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why grouped matrix products do not work here, found out by trying one forward and backward pass; None if they do.

    Args:
        device: where.
        dtype: of rows and weights.
    """
    if not hasattr(F, "grouped_mm"):
        return f"torch {torch.__version__} has no grouped_mm"
    try:
        with torch.inference_mode(False), torch.enable_grad():  # the answer is kept, whoever asks first
            found = _trial(device, dtype)
    except RuntimeError as error:
        return first_line(str(error)) or type(error).__name__
    right = all(bool((t == value).all()) for t, value in zip(found, [16.0, 16.0, 8.0, 0.0, 16.0], strict=True))
    return None if right else "it computes wrong numbers"


def _trial(device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Three groups of ones, the second empty: the output, the rows' gradient and that of each group's weights."""
    rows = torch.ones(24, 16, device=device, dtype=dtype, requires_grad=True)
    weights = torch.ones(3, 16, 16, device=device, dtype=dtype, requires_grad=True)
    ends = torch.tensor([8, 8, 24], device=device, dtype=torch.int32)
    out = F.grouped_mm(rows, weights.transpose(1, 2), offs=ends)
    rows_grad, weights_grad = torch.autograd.grad(out, [rows, weights], torch.ones_like(out))
    return [out, rows_grad, *weights_grad.unbind()]


def apply_experts_grouped(experts: Sequence[ExpertFFN | ReadyFFN], rows_RD: Tensor, counts: Sequence[int]) -> Tensor:
    """What :func:`smoe_ds.moe.experts.apply_experts` does, with two (SwiGLU: three) grouped matrix products.

    Args:
        experts: built-in experts of one activation.
        rows_RD: rows grouped by expert, at least one.
        counts: rows per expert; sums to R.

    Returns:
        [R, D], in the order of ``rows_RD``.
    """
    device = rows_RD.device
    ends = torch.tensor(list(accumulate(counts)), dtype=torch.int32, device=device)
    expert_R = torch.repeat_interleave(
        torch.arange(len(counts), device=device), torch.tensor(counts, device=device), output_size=rows_RD.shape[0]
    )

    def linear(x: Tensor, weight: str, bias: str) -> Tensor:
        weights = torch.stack([getattr(expert, weight) for expert in experts])
        biases = torch.stack([getattr(expert, bias) for expert in experts])
        return _with_bias(F.grouped_mm(x, weights.transpose(1, 2), offs=ends), biases, expert_R, list(counts))

    hidden = linear(rows_RD, "w1", "b1")
    activation = experts[0].activation
    if activation == "swiglu":
        hidden = F.silu(hidden) * linear(rows_RD, "w3", "b3")
    else:
        hidden = F.relu(hidden) if activation == "relu" else F.gelu(hidden)
    return linear(hidden, "w2", "b2")


def _with_bias(x: Tensor, bias_ED: Tensor, expert_R: Tensor, counts: list[int]) -> Tensor:
    out: Tensor = _AddBias.apply(x, bias_ED, expert_R, counts)
    return out


class _AddBias(torch.autograd.Function):
    """``x + bias[expert of the row]``; the bias's gradient is summed expert by expert, without atomics."""

    @staticmethod
    def forward(ctx, x: Tensor, bias_ED: Tensor, expert_R: Tensor, counts: list[int]) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.counts = counts
        return x + bias_ED.index_select(0, expert_R)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
        return grad.contiguous(), torch.stack([part.sum(0) for part in grad.split(ctx.counts)]), None, None
