"""A model without some of its experts: each gate chooses among those that are left, its softmax over them alone.

Identity stays the logical number: files name the experts that are left by their numbers in the whole layer. In memory a
block of fewer experts is built, its strata shorter by what is gone, so that nothing of the layer has to know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.heads import inner_sizes
from smoe_ds.config.model import ModelConfig
from smoe_ds.config.smoe import SmoeConfig
from smoe_ds.errors import CheckpointError
from smoe_ds.model.feed_forward import MoeFactory, moe_factory
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.moe.placement import Placement

BY_VISIBLE_EXPERT = ("gates.", "balance_steps_")
"""Starts of the names of a block's tensors with a row for each expert that a gate sees; the stratum follows."""


def remaining_strata(placement: Placement, removed: Sequence[int]) -> list[int]:
    """Experts that each stratum has left.

    Raises:
        CheckpointError: a number is no expert's, or a stratum has none left.
    """
    gone = set(removed)
    if unknown := sorted(gone - set(range(placement.num_experts))):
        raise CheckpointError(
            f"experts {unknown} are to be removed from strata {list(placement.strata)}, which have "
            f"{placement.num_experts}; export the model again"
        )
    left = [
        sum(e not in gone for e in range(first, first + size))
        for first, size in ((placement.first_expert(i), size) for i, size in enumerate(placement.strata))
    ]
    if 0 in left:
        raise CheckpointError(
            f"strata {list(placement.strata)} without experts {sorted(gone)}: a stratum would be empty"
        )
    return left


def prune_weights(
    weights: Mapping[str, Tensor], placements: Mapping[str, Placement], removed: Mapping[str, Sequence[int]]
) -> dict[str, Tensor]:
    """The weights without the removed experts and their rows in the gates.

    Args:
        weights: of the whole model, by logical name.
        placements: strata of each block.
        removed: logical numbers by block name.
    """
    result = dict(weights)
    for block, numbers in removed.items():
        gone = set(numbers)
        for name in [name for name in result if name.startswith(f"{block}.")]:
            inner = name[len(block) + 1 :]
            if inner.startswith("experts.") and int(inner.split(".")[1]) in gone:
                del result[name]
            for start in BY_VISIBLE_EXPERT:
                if inner.startswith(start):
                    visible = placements[block].visible_experts(int(inner[len(start) :]))
                    result[name] = result[name][[e not in gone for e in visible]]
    return result


def renumbered(
    weights: Mapping[str, Tensor], placements: Mapping[str, Placement], removed: Mapping[str, Sequence[int]]
) -> dict[str, Tensor]:
    """Weights under the names of the smaller blocks: the experts that are left numbered from 0."""
    result = dict(weights)
    for block, numbers in removed.items():
        left = [e for e in range(placements[block].num_experts) if e not in set(numbers)]
        for place, number in enumerate(left):
            old = f"{block}.experts.{number}."
            for name in [name for name in result if name.startswith(old)]:
                result[f"{block}.experts.{place}.{name[len(old) :]}"] = result.pop(name)
    return result


def pruned_factory(model: ModelConfig, seed: int, removed: Mapping[str, Sequence[int]]) -> MoeFactory:
    """Builder of the run's blocks without their removed experts."""

    def make(name: str, block: BlockSettings) -> StratifiedMoE:
        strata = remaining_strata(placement_of(block), removed.get(name, ()))
        changes: dict[str, object] = {"strata": strata}
        if block.heads > 1:  # as wide as before, though there are fewer experts
            changes["expert_ffn"] = inner_sizes(block, model.d_model, model.d_ffn, model.activation)[1]
        return moe_factory(model, seed)(name, block.model_copy(update=changes))

    return make


def placement_of(block: BlockSettings) -> Placement:
    """Numbering of a block's experts, on one device."""
    return Placement(tuple(block.strata), 1, block.stacked)


def placements_of(smoe: SmoeConfig) -> dict[str, Placement]:
    """Numbering of the experts of a run's blocks, by block name."""
    return {name: placement_of(block) for name, block in smoe.moe.blocks(smoe.model).items()}
