"""How often each expert is chosen in given sentences, by block, from a forward pass over them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from smoe_ds.data.batch import Batch
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.moe.stats import BlockStats


@dataclass
class ExpertUse:
    """Choices in one block, by logical expert number.

    Attributes:
        first_E: times an expert was a token's first choice, int64 [E].
        all_E: times it was any choice, int64 [E].
    """

    first_E: Tensor
    all_E: Tensor

    @property
    def share_E(self) -> Tensor:
        """Share of all choices of the block that fell on each expert [E], float64; zeros where there was no token."""
        return self.all_E.double() / max(int(self.all_E.sum()), 1)


@torch.inference_mode()
def count_choices(model: Transformer, batches: Iterable[Batch], device: torch.device) -> dict[str, ExpertUse]:
    """Runs the model over sentence pairs, the targets given, and counts by block name.

    Args:
        model: in evaluation mode, on ``device``.
        batches: framed as in training.
        device: where to compute.
    """
    blocks = {name: module for name, module in model.named_modules() if isinstance(module, StratifiedMoE)}
    use = {name: no_choices(block) for name, block in blocks.items()}
    for batch in batches:
        _, stats = model(batch.src.to(device), batch.tgt_in.to(device))
        for (name, block), block_stats in zip(blocks.items(), stats, strict=True):
            add_choices(use[name], block, block_stats)
    return use


def no_choices(block: StratifiedMoE) -> ExpertUse:
    """Zeros for every expert of a block."""
    size = block.placement.num_experts
    return ExpertUse(torch.zeros(size, dtype=torch.long), torch.zeros(size, dtype=torch.long))


def add_choices(use: ExpertUse, block: StratifiedMoE, stats: BlockStats) -> None:
    """Adds the choices of one forward pass of a block."""
    for i, stratum in enumerate(stats.strata):
        visible = list(block.placement.visible_experts(i))
        use.first_E[visible] += stratum.first_choice_E.cpu()
        use.all_E[visible] += stratum.requested_KE.sum(0).cpu()
