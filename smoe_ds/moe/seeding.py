"""Random numbers that depend on a name, not on the order in which modules happen to be built."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from any printable parts, e.g. ``derive_seed(seed, "experts.3.w1")``."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def uniform_(tensor: Tensor, bound: float, *name: object) -> None:
    """Fill ``tensor`` with U(-bound, bound), drawn on the CPU in float32 from a generator seeded by ``name``.

    A tensor on the meta device has no numbers and is left alone.

    Every rank and device gets the same numbers for the same name, whatever else was drawn before.
    """
    if tensor.is_meta:
        return
    generator = torch.Generator().manual_seed(derive_seed(*name))
    values = torch.empty(tensor.shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
    with torch.no_grad():
        tensor.copy_(values)


def xavier_bound(fan_in: int, fan_out: int) -> float:
    """Bound of the uniform distribution of Glorot and Bengio (2010), Eq. 16."""
    return (6 / (fan_in + fan_out)) ** 0.5
