"""How matrices start: scales by name, the numbers a function of a name alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from smoe_ds.moe.seeding import derive_seed, uniform_, xavier_bound

_SWITCH_SCALE = 0.1
_ORTHOGONAL_GAIN = 0.1
_CUT = 2.0  # standard deviations at which Switch's normal distribution is cut off


def initialize(weight: Tensor, bias: Tensor | None, how: str, *name: object) -> None:
    """Fills a matrix [out, in], and its bias, from a generator seeded by ``name``.

    Args:
        weight: the matrix; on the meta device nothing happens.
        bias: [out]; None if there is none.
        how: ``xavier``: U(-a, a), a = sqrt(6 / (in + out)), bias 0 (Glorot and Bengio, 2010). ``linear``: weight and
            bias U(-1/sqrt(in), 1/sqrt(in)), as PyTorch's ``Linear`` and so the paper's code. ``switch``: normal of
            variance 0.1 / in, cut off at two standard deviations, bias 0 (arXiv 2101.03961, 2.4). ``orthogonal``: 0.1
            times a matrix with orthonormal rows, or columns where those are fewer, bias 0 (arXiv 2103.16716).
        name: of the matrix.
    """
    fan_out, fan_in = weight.shape
    if bias is not None and not bias.is_meta:
        torch.nn.init.zeros_(bias)
    if how == "switch":
        _normal(weight, math.sqrt(_SWITCH_SCALE / fan_in), *name)
        return
    if how == "orthogonal":
        _orthogonal(weight, *name)
        return
    bound = fan_in**-0.5 if how == "linear" else xavier_bound(fan_in, fan_out)
    uniform_(weight, bound, *name)
    if how == "linear" and bias is not None:
        uniform_(bias, bound, *name, "bias")


def _normal(weight: Tensor, deviation: float, *name: object) -> None:
    """Numbers of a normal distribution that is cut off, drawn on the CPU in float32."""
    if weight.is_meta:
        return
    generator = torch.Generator().manual_seed(derive_seed(*name))
    values = torch.empty(weight.shape, dtype=torch.float32)
    torch.nn.init.trunc_normal_(values, std=deviation, a=-_CUT * deviation, b=_CUT * deviation, generator=generator)
    with torch.no_grad():
        weight.copy_(values)


def _orthogonal(weight: Tensor, *name: object) -> None:
    """Numbers drawn on the CPU and made orthogonal in float64, so that every machine rounds them to the same."""
    if weight.is_meta:
        return
    generator = torch.Generator().manual_seed(derive_seed(*name))
    values = torch.empty(weight.shape, dtype=torch.float64)
    torch.nn.init.orthogonal_(values, gain=_ORTHOGONAL_GAIN, generator=generator)
    with torch.no_grad():
        weight.copy_(values)
