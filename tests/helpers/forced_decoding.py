"""Decoding step by step beside a whole target at once."""

from __future__ import annotations

import torch
from torch import Tensor

from smoe_ds.model.transformer import Transformer
from tests.helpers.layers import add_noise


def assert_steps_are_forced_decoding(model: Transformer, src: Tensor, tgt: Tensor) -> tuple[Tensor, Tensor]:
    """Every step's logits are those of the whole targets, also after hypotheses have changed places.

    The model gets some noise, so that all of its weights matter.

    Args:
        model: float64, in evaluation.
        src: three sources [3, S].
        tgt: their decoder inputs [3, T], T of 4 or more.

    Returns:
        the decoder inputs and logits in their last order.
    """
    add_noise(model, 0.1)
    with torch.no_grad():
        forced, _ = model(src, tgt)
        cache = model.start_decoding(model.encode(src, start=tgt[:, 0]))
        for position in range(tgt.shape[1]):
            logits = model.decode_step(tgt[:, position], cache)
            torch.testing.assert_close(logits, forced[:, position], rtol=1e-10, atol=1e-10)
            if position == 2:  # as beam search moves hypotheses about
                order = torch.tensor([2, 0, 1])
                cache.reorder(order, order)
                tgt, forced = tgt[order], forced[order]
    return tgt, forced
