"""Number formats: what a run calls them, and what PyTorch does."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")
"""PyTorch's names of those that a model can be computed or written in."""
INT8 = "int8"
"""Weights of linear layers in 8 bits, all else in float32; to decode with on the processor alone."""
DECODING_DTYPES = (*DTYPES, INT8)
"""What a trained model can be opened in."""
DTYPE_OF = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""PyTorch's name of a run's precision."""


def torch_dtype(name: str) -> torch.dtype:
    """PyTorch's format of a name: one of `DECODING_DTYPES`, or a run's precision; of int8 that of all results."""
    import torch

    dtype: torch.dtype = getattr(torch, "float32" if name == INT8 else DTYPE_OF.get(name, name))
    return dtype
