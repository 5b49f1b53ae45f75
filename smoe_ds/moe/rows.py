"""Copy tokens into rows for the experts, and add the experts' rows up by token; neither direction uses atomics.

A row is one (token, choice) pair that found room in its expert. Forward and backward of both steps are plain gathers,
so results are bitwise repeatable on every device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class RowIndex:
    """Which row belongs to which (token, choice) pair; pair numbers are ``choice * T + token``.

    Attributes:
        pair_R: pair of each row.
        token_R: token of each row.
        row_KT: row of each pair; anything where the pair has no row.
        missing_KT: True where a pair has no row; None if all have one.
    """

    pair_R: Tensor
    token_R: Tensor
    row_KT: Tensor
    missing_KT: Tensor | None

    @property
    def num_choices(self) -> int:
        """K."""
        return self.row_KT.shape[0]

    def first(self, num_choices: int) -> RowIndex:
        """The same for the first choices only; no other has a row. Pair numbers stay as they are."""
        if num_choices == self.num_choices:
            return self
        missing_KT = None if self.missing_KT is None else self.missing_KT[:num_choices]
        return RowIndex(self.pair_R, self.token_R, self.row_KT[:num_choices], missing_KT)

    def rows_of_choice(self, rows_RD: Tensor, choice: int) -> Tensor:
        """The row of each token's ``choice`` as a new tensor [T, D], zero where it has none."""
        rows_TD = rows_RD.index_select(0, self.row_KT[choice])
        return rows_TD if self.missing_KT is None else rows_TD.masked_fill_(self.missing_KT[choice].unsqueeze(1), 0)


def rows_of_tokens(h_TD: Tensor, index: RowIndex) -> Tensor:
    """``h_TD[token_R]`` [R, D]; the gradient of a token is the sum of its rows' gradients in order of the choices."""
    rows: Tensor = _RowsOfTokens.apply(h_TD, index)
    return rows


def sum_by_token(rows_RD: Tensor, weights_TK: Tensor, index: RowIndex, keep_PD: Tensor | None = None) -> Tensor:
    """``sum_k weights[t, k] * rows[row of (t, k)]``, added up in the dtype of the weights.

    Args:
        rows_RD: the experts' outputs.
        weights_TK: weight of each choice; must be 0 where the choice has no row.
        index: rows of the choices.
        keep_PD: dropout mask by pair [P, D], True = kept; its scale belongs into the weights.

    Returns:
        [T, D] in the dtype of the rows.
    """
    y_TD: Tensor = _SumByToken.apply(rows_RD, weights_TK, index, keep_PD)
    return y_TD


class _RowsOfTokens(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h_TD: Tensor, index: RowIndex) -> Tensor:
        ctx.index = index
        return h_TD.index_select(0, index.token_R)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_RD: Tensor) -> tuple[Tensor | None, ...]:
        index: RowIndex = ctx.index
        grad_TD = index.rows_of_choice(grad_RD, 0)
        for choice in range(1, index.row_KT.shape[0]):
            grad_TD += index.rows_of_choice(grad_RD, choice)
        return grad_TD, None


class _SumByToken(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows_RD: Tensor, weights_TK: Tensor, index: RowIndex, keep_PD: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows_RD, weights_TK, keep_PD)
        ctx.index = index
        y_TD = torch.empty(0)
        for choice, weight_T1 in enumerate(weights_TK.split(1, dim=1)):
            rows_TD = _kept_rows(rows_RD, index, choice, keep_PD).to(weights_TK.dtype)
            y_TD = rows_TD.mul_(weight_T1) if choice == 0 else y_TD.addcmul_(rows_TD, weight_T1)
        return y_TD.to(rows_RD.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Tensor | None, ...]:
        rows_RD, weights_TK, keep_PD = ctx.saved_tensors
        index: RowIndex = ctx.index
        grad_RD = grad_weights_TK = None
        if ctx.needs_input_grad[1]:
            products = [
                _kept_rows(rows_RD, index, choice, keep_PD).to(weights_TK.dtype).mul_(grad_TD).sum(1)
                for choice in range(weights_TK.shape[1])
            ]
            grad_weights_TK = torch.stack(products, dim=1)
        if ctx.needs_input_grad[0]:
            weights_R = weights_TK.t().flatten().index_select(0, index.pair_R)
            grad_RD = grad_TD.index_select(0, index.token_R)
            if grad_RD.dtype == weights_R.dtype:
                grad_RD.mul_(weights_R.unsqueeze(1))
            else:
                grad_RD = (grad_RD * weights_R.unsqueeze(1)).to(rows_RD.dtype)
            if keep_PD is not None:
                grad_RD.mul_(keep_PD.index_select(0, index.pair_R))
        return grad_RD, grad_weights_TK, None, None


def _kept_rows(rows_RD: Tensor, index: RowIndex, choice: int, keep_PD: Tensor | None) -> Tensor:
    """The rows of one choice by token, after dropout, as a new tensor."""
    rows_TD = index.rows_of_choice(rows_RD, choice)
    if keep_PD is None:
        return rows_TD
    num_tokens = rows_TD.shape[0]
    return rows_TD.mul_(keep_PD[choice * num_tokens : (choice + 1) * num_tokens])
