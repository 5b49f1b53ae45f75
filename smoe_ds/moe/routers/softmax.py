"""What routers with a softmax gate have in common: scores, probabilities, and what the losses want of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from smoe_ds.config.block import BlockSettings
from smoe_ds.moe.gate import gate_logits, jittered
from smoe_ds.moe.gate_scores import FIRST_TEMPERATURE, CosineScores
from smoe_ds.moe.routers.router import Router, entropy_sum, without, z_sum
from smoe_ds.moe.routing import GateSums, RoutingContext


@dataclass(frozen=True)
class Gated:
    """A gate's answer.

    Attributes:
        probs_TE: gate probabilities, 0 for experts that must not be chosen.
        sums: for losses and log; the probabilities there are those that the balance loss is taken of.
    """

    probs_TE: Tensor
    sums: GateSums | None


class SoftmaxRouter(Router):
    """A router whose gate is a softmax, over linear or cosine scores as the block's ``gate_scores`` say."""

    def __init__(self, block: BlockSettings, d_model: int, visible: int) -> None:
        super().__init__(block, d_model, visible)
        width = block.cosine_width(visible)
        self.cosine = None if width is None else CosineScores(visible, width, block.gate_init)

    def initialize(self, *name: object) -> None:
        if self.cosine is not None:
            self.cosine.initialize(*name)

    def gate(self, h_TD: Tensor, weight: Tensor, context: RoutingContext) -> Gated:
        """Probabilities of the experts.

        Args:
            h_TD: normalised tokens [T, D].
            weight: the gate's, [E, D] or with cosine scores [d, D].
            context: jitter is applied in training; forbidden experts get probability 0.
        """
        h_TD = jittered(h_TD, self.block.jitter) if context.training else h_TD
        if self.cosine is None:
            logits_TE = gate_logits(h_TD, weight)
            probs_TE = torch.softmax(without(logits_TE, context.forbidden_E), dim=-1)
            return Gated(probs_TE, _sums(logits_TE, probs_TE, probs_TE) if context.sums else None)
        cosines_TE = self.cosine(h_TD, weight)
        logits_TE = self.cosine.logits(cosines_TE)
        probs_TE = torch.softmax(without(logits_TE, context.forbidden_E), dim=-1)
        if not context.sums:
            return Gated(probs_TE, None)
        balanced_TE = torch.softmax(without(cosines_TE / FIRST_TEMPERATURE, context.forbidden_E), dim=-1)
        return Gated(probs_TE, _sums(logits_TE, probs_TE, balanced_TE))


def _sums(logits_TE: Tensor, probs_TE: Tensor, balanced_TE: Tensor) -> GateSums:
    return GateSums(balanced_TE.sum(0), entropy_sum(probs_TE), z_sum(logits_TE))
