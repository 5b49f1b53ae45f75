"""torch.compile for the parts of a model whose shapes do not depend on the data."""

from __future__ import annotations

from torch import nn

from smoe_ds.model.attention import Attention
from smoe_ds.model.feed_forward import DenseFeedForward


def compile_dense_parts(model: nn.Module) -> None:
    """Compile attention and dense feed-forward networks in place; parameter names stay as they are.

    The strata stay eager: the number of rows an expert gets is another one in every batch. The first steps take longer,
    and results differ from the eager ones by rounding and by other dropout masks.

    Args:
        model: the model, before its first forward pass.
    """
    for module in model.modules():
        if isinstance(module, Attention | DenseFeedForward):
            module.compile(dynamic=True)
