"""The matrix of a chain of five tensors, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import torch
from torch import Tensor


def naive_matrix(tensors: Sequence[Tensor]) -> Tensor:
    """[I, J]: each element is a product of five matrices, one slice of each tensor [d, i, j, d']."""
    rows, columns = ([tensor.shape[axis] for tensor in tensors] for axis in (1, 2))
    elements = []
    for i in product(*map(range, rows)):
        for j in product(*map(range, columns)):
            value = torch.ones(1, 1, dtype=tensors[0].dtype)
            for tensor, row, column in zip(tensors, i, j, strict=True):
                value = value @ tensor[:, row, column, :]
            elements.append(value.reshape(()))
    return torch.stack(elements).view(prod(rows), prod(columns))
