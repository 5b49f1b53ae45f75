"""Built-in experts from tokens to tokens, holding little for the backward pass: all experts on one device.

Applied one after the other, each expert gathers its rows, and adds its weighted output to the tokens at once. Rows and
outputs are dropped then; the backward pass gathers rows again, and takes the gradient of a row's weight from the inner
activations, ``<g, w2 a + b2> = <g w2, a> + <g, b2>``, which need no output. What stays is one tensor [R, F] (SwiGLU:
two), a layer's largest by far. An expert's two products are two autograd nodes, so that the gradient of one weight is
handed over before that of the other is made.

The tokens' sum and the gradient of their normalised input pass through all nodes and are added to in place. A token
occurs at most once among an expert's rows, so the additions are repeatable to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from smoe_ds.moe.experts import ExpertFFN, ReadyFFN
from smoe_ds.moe.rows import RowIndex

_ROWS_AT_ONCE = {"cpu": 1024, "cuda": 8192}  # of a product that is only summed up


def mix_experts(
    experts: Sequence[ExpertFFN | ReadyFFN],
    h_TD: Tensor,
    weights_TK: Tensor,
    index: RowIndex,
    counts: Sequence[int],
    keep_PD: Tensor | None = None,
) -> Tensor:
    """The weighted sum of each token's experts, as ``sum_by_token(apply_experts(rows_of_tokens(h)))`` makes it.

    Args:
        experts: built-in experts, in the order of the rows.
        h_TD: the experts' input.
        weights_TK: weight of each choice; must be 0 where the choice has no row.
        index: rows of the choices.
        counts: rows per expert; sums to R.
        keep_PD: dropout mask by pair [K * T, D], True = kept; its scale belongs into the weights.

    Returns:
        [T, D] in the dtype of ``h_TD``; added up in that of the weights.
    """
    y_TD = torch.zeros_like(h_TD, dtype=weights_TK.dtype)
    weights_R = _WeightsOfRows.apply(weights_TK, index)
    sizes = list(counts)
    for expert, weights_r, token_r, pair_r in zip(
        experts, weights_R.split(sizes), index.token_R.split(sizes), index.pair_R.split(sizes), strict=True
    ):
        keep_rD = None if keep_PD is None else keep_PD.index_select(0, pair_r)
        gate = (expert.w3, expert.b3) if expert.activation == "swiglu" else (None, None)
        h_TD, *inner = _Up.apply(h_TD, token_r, expert.activation, expert.w1, expert.b1, *gate)
        y_TD = _Down.apply(y_TD, token_r, expert.activation, weights_r, keep_rD, expert.w2, expert.b2, *inner)
    return y_TD.to(h_TD.dtype)


class _WeightsOfRows(torch.autograd.Function):
    """The weight of each row's (token, choice) pair [R]; no pair has two rows."""

    @staticmethod
    def forward(ctx: Any, weights_TK: Tensor, index: RowIndex) -> Tensor:
        ctx.index, ctx.num_choices = index, weights_TK.shape[1]
        return weights_TK.t().flatten().index_select(0, index.pair_R)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_R: Tensor) -> tuple[Tensor | None, ...]:
        index: RowIndex = ctx.index
        grad = grad_R.new_zeros(index.row_KT.numel()).index_copy_(0, index.pair_R, grad_R)
        return grad.view(ctx.num_choices, -1).t(), None


class _Up(torch.autograd.Function):
    """The first product of an expert: what its activation needs [r, F], beside the tokens it came from."""

    @staticmethod
    def forward(
        ctx: Any, h_TD: Tensor, token_r: Tensor, activation: str, *weights: Tensor | None
    ) -> tuple[Tensor, ...]:
        w1, b1, w3, b3 = weights
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(h_TD, token_r, w1, w3)
        rows_rD = h_TD.index_select(0, token_r)
        inner = F.linear(rows_rD, w1, b1)  # type: ignore[arg-type]
        if activation == "relu":
            inner.relu_()
        return (h_TD, inner) if w3 is None else (h_TD, inner, F.linear(rows_rD, w3, b3))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TD: Tensor | None, *inner_grads: Tensor) -> tuple[Tensor | None, ...]:
        h_TD, token_r, *weights = ctx.saved_tensors
        rows_rD = h_TD.index_select(0, token_r)
        if ctx.needs_input_grad[0] and grad_TD is None:  # the last expert begins
            grad_TD = torch.zeros_like(h_TD)
        weight_grads: list[Tensor | None] = []
        for number, (weight, grad_rF) in enumerate(zip(weights, inner_grads, strict=False)):
            need_weight, need_bias = ctx.needs_input_grad[3 + 2 * number : 5 + 2 * number]
            weight_grads += [grad_rF.t() @ rows_rD if need_weight else None, grad_rF.sum(0) if need_bias else None]
            if ctx.needs_input_grad[0]:
                grad_TD.index_add_(0, token_r, grad_rF @ weight)  # type: ignore[union-attr]
        return grad_TD, None, None, *weight_grads, *[None] * (4 - len(weight_grads))


class _Down(torch.autograd.Function):
    """The activation and the second product of an expert; its weighted output is added to ``y_TD``."""

    @staticmethod
    def forward(
        ctx: Any,
        y_TD: Tensor,
        token_r: Tensor,
        activation: str,
        weights_r: Tensor,
        keep_rD: Tensor | None,
        w2: Tensor,
        b2: Tensor,
        *inner: Tensor,
    ) -> Tensor:
        ctx.activation = activation
        ctx.save_for_backward(token_r, weights_r, keep_rD, w2, b2, *inner)
        ctx.mark_dirty(y_TD)
        out_rD = F.linear(_activated(activation, *inner), w2, b2).to(y_TD.dtype).mul_(weights_r.unsqueeze(1))
        if keep_rD is not None:
            out_rD.mul_(keep_rD)
        return y_TD.index_add_(0, token_r, out_rD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Tensor | None, ...]:
        token_r, weights_r, keep_rD, w2, b2, *inner = ctx.saved_tensors
        _, _, _, needs_weight, _, needs_w2, needs_b2, *_ = ctx.needs_input_grad
        hidden_rF = _activated(ctx.activation, *inner)
        grad_rD = grad_TD.index_select(0, token_r)
        if keep_rD is not None:
            grad_rD.mul_(keep_rD)
        grad_weights = grad_w2 = grad_b2 = None
        unweighted_rF = grad_rD.to(w2.dtype) @ w2
        if needs_weight:
            grad_weights = _row_products(unweighted_rF, hidden_rF, grad_TD.dtype) + grad_rD @ b2.to(grad_rD.dtype)
        if needs_w2 or needs_b2:
            weighted_rD = grad_rD.mul_(weights_r.unsqueeze(1)).to(w2.dtype)
            grad_w2 = weighted_rD.t() @ hidden_rF if needs_w2 else None
            grad_b2 = weighted_rD.sum(0) if needs_b2 else None
        del hidden_rF, grad_rD
        inner_grads = _activation_grads(ctx.activation, unweighted_rF.mul_(weights_r.unsqueeze(1)), *inner)
        return grad_TD, None, None, grad_weights, None, grad_w2, grad_b2, *inner_grads


def _activated(activation: str, *inner: Tensor) -> Tensor:
    """[r, F]; ReLU is applied already."""
    if activation == "swiglu":
        return F.silu(inner[0]).mul_(inner[1])
    return inner[0] if activation == "relu" else F.gelu(inner[0])


def _activation_grads(activation: str, grad_rF: Tensor, *inner: Tensor) -> tuple[Tensor, ...]:
    """Gradients of ``inner`` from that of the activation's output, which is written over."""
    if activation == "relu":
        return (torch.ops.aten.threshold_backward.grad_input(grad_rF, inner[0], 0, grad_input=grad_rF),)
    if activation == "gelu":
        return (torch.ops.aten.gelu_backward.grad_input(grad_rF, inner[0], grad_input=grad_rF),)
    gate_grad = F.silu(inner[0]).mul_(grad_rF)
    return torch.ops.aten.silu_backward.grad_input(grad_rF.mul_(inner[1]), inner[0], grad_input=grad_rF), gate_grad


def _row_products(a_rF: Tensor, b_rF: Tensor, dtype: torch.dtype) -> Tensor:
    """``(a * b).sum(1)`` [r] in ``dtype``, without a product of full size."""
    size = _ROWS_AT_ONCE.get(a_rF.device.type, 1024)
    pieces = [(a.to(dtype) * b).sum(1) for a, b in zip(a_rF.split(size), b_rF.split(size), strict=True)]
    return torch.cat(pieces)
