"""Linear layers whose weights lie in memory as the processor's fastest products read them; they only compute."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoe_ds.text_line import first_line

_ROWS = 64  # what weights are laid out for: of little consequence, see tests/benchmarks/LOG.md
_LEVELS = 127  # of a weight, on each side of 0
_LEAST = 1e-30  # what a row that is all zero is divided by


class PackedLinear(nn.Module, ABC):
    """``x weight^T + bias`` for float32 rows, without gradient.

    Args:
        weight: [O, I], float32 on the processor; not kept.
        bias: [O]; None for none.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.bias = None if bias is None else bias.detach()
        self._packed = self._pack(weight.detach())

    @staticmethod
    @abstractmethod
    def _pack(weight: Tensor) -> object:
        """The weight as `forward` reads it."""

    @staticmethod
    @abstractmethod
    def table(weight: Tensor) -> nn.Module:
        """A function from token ids [B, T] to rows of the weight in float32 [B, T, I]."""

    @abstractmethod
    def forward(self, x: Tensor, *, relu: bool = False) -> Tensor:
        """[..., I] -> [..., O], with ReLU behind it if wanted."""


class Float32Linear(PackedLinear):
    """The same numbers in the order that oneDNN reads them."""

    @staticmethod
    def _pack(weight: Tensor) -> Tensor:
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
        return packed

    @staticmethod
    def table(weight: Tensor) -> nn.Module:
        return nn.Embedding.from_pretrained(weight.detach())

    def forward(self, x: Tensor, *, relu: bool = False) -> Tensor:
        behind = "relu" if relu else "none"
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, behind, [], "")
        return y


class Int8Linear(PackedLinear):
    """Weights of 8 bits with a scale for each output, and rows brought to 7 bits as they come.

    Each row is divided by its largest element first, so that no row is rounded more coarsely for the sake of another.
    With 7 bits the sums of two products fit the 16 bits that processors without VNNI add them up in.
    """

    @staticmethod
    def _pack(weight: Tensor) -> object:
        scales = _scales(weight)
        with warnings.catch_warnings():  # PyTorch means to drop tensors of this kind, but has no other such product yet
            warnings.simplefilter("ignore", UserWarning)
            zeros = torch.zeros(len(weight), dtype=torch.long)
            quantized = torch.quantize_per_channel(weight.contiguous(), scales.double(), zeros, 0, torch.qint8)
            return torch.ops.quantized.linear_prepack(quantized, None)

    @staticmethod
    def table(weight: Tensor) -> nn.Module:
        return _Int8Table(weight.detach())

    def forward(self, x: Tensor, *, relu: bool = False) -> Tensor:
        largest = torch.linalg.vector_norm(x, torch.inf, dim=-1, keepdim=True).clamp_(min=_LEAST)
        y: Tensor = torch.ops.quantized.linear_dynamic(x / largest, self._packed, reduce_range=True)
        y = y.mul_(largest) if self.bias is None else torch.addcmul(self.bias, y, largest)
        return y.relu_() if relu else y


class _Int8Table(nn.Module):
    """Rows of a weight in int8."""

    scales: Tensor
    levels: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("scales", _scales(weight).unsqueeze(1))
        self.register_buffer("levels", (weight / self.scales).round_().to(torch.int8))

    def forward(self, token_ids: Tensor) -> Tensor:
        return F.embedding(token_ids, self.levels) * F.embedding(token_ids, self.scales)


def _scales(weight: Tensor) -> Tensor:
    """What one level of each row of a weight [O, I] stands for in int8 [O]."""
    return (weight.abs().amax(dim=1) / _LEVELS).clamp(min=_LEAST)


PACKED: dict[str, type[PackedLinear]] = {"float32": Float32Linear, "int8": Int8Linear}
"""By the number format of the weights."""


@lru_cache
def packed_problem(numbers: str) -> str | None:
    """Why packed products do not work here, found out by trying one; None if they do.

    Args:
        numbers: a key of `PACKED`.
    """
    rows, weight, bias = torch.eye(8).repeat(2, 2), torch.arange(-64.0, 64.0).view(8, 16), torch.arange(8.0)
    try:
        with torch.inference_mode():
            found = PACKED[numbers](weight, bias)(rows)
    except (RuntimeError, AttributeError) as error:
        return first_line(str(error)) or type(error).__name__
    right = torch.allclose(found, rows @ weight.t() + bias, atol=4.0 if numbers == "int8" else 1e-3)
    return None if right else "it computes wrong numbers"
