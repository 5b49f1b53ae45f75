"""Makes a stratified mixture of experts, upcycled from a dense model, compute what the dense model does.

A token passes as many strata as its gates say, so that copies alone would send it through the dense network as often.
But exactly one of its passes, the last, has its first choice in the last stratum. So the experts of the last stratum
stay copies, and those of earlier ones start at zero: their second matrix and its bias are 0, which adds nothing to the
residual, and the last pass finds the token as the dense layer would. Zero is no dead end, since the second matrix has a
gradient from the first step on.

That leaves passes whose K choices are of both kinds. They would take a part of the dense network too early, or only a
part of it at the end. So the rows of each gate are made equal in groups of K experts (or a few more) of one kind. Equal
rows have equal probabilities, and the K best are one group: K copies, whose weights add up to 1, or K zeros. The rows
part in training: the balance loss treats the first choice of a group unlike the others.

What remains: in training, ``second_expert: sample`` draws choices across groups, and a full expert drops rows. Where
the earlier strata that a gate sees have fewer than K experts together, their group is too small, and a token that takes
it gets a part of a copy beside it.

A shared expert that is added sees every token once. Then it is the copy, and all others start at zero: whatever the
routing does, in training too, the block is the dense layer.

Source: ours. The zero start is that of BASE layers (arXiv 2103.16716); copies whose weights add up to 1 are those of
sparse upcycling (arXiv 2212.05055).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from smoe_ds.config.block import BlockSettings
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.moe.placement import Placement

_OTHERWISE = "or use --method copy, which does not keep the dense function"
_LAST_LAYER = ("w2", "b2")


def preserve_problem(blocks: Mapping[str, BlockSettings]) -> str | None:
    """Why some block cannot start as the dense layer, with the remedy; None if all can.

    Args:
        blocks: settings by the block's name.
    """
    for name, block in blocks.items():
        for problem in _problems(block):
            return f"smoe.moe.{problem} ({name}), {_OTHERWISE}"
    return None


def _problems(block: BlockSettings) -> Iterator[str]:
    if block.norm != "paper":
        yield "norm: released normalises the block's output, which the dense layer does not; set it to paper"
    for key in ("expert_output_masking", "final_output_masking"):
        if getattr(block, key):
            yield f"{key}: makes outputs smaller in evaluation; leave it to the run that trains the new model"
    if len(block.strata) > 1 or block.shared_expert == "add":
        yield from _problems_of_zeros(block)
    if block.shared_expert != "add":
        yield from _problems_of_weights(block)


def _problems_of_weights(block: BlockSettings) -> Iterator[str]:
    """Weights of the copies that a token takes have to add up to 1."""
    if block.router.kind == "hash":
        return
    if block.router.kind != "top_k":
        yield f"router: weights of the router {block.router.kind} do not add up to 1; choose top_k or hash"
    elif block.combine_weights == "ones" and block.top_k > 1:
        yield "combine_weights: ones adds up as many copies as top_k says; set it to after_drop"
    elif block.combine_weights != "ones" and block.top_k == 1:
        yield (
            "combine_weights: with top_k 1 the only weight is a probability, not 1; set top_k to 2, or combine_weights "
            "to ones"
        )
    elif block.combine_weights == "raw":
        yield "combine_weights: raw weights do not add up to 1; set it to after_drop"
    if len(block.strata) > 1 and block.gate_scores != "linear":
        yield "gate_scores: cosine has no rows that could be made equal; set it to linear"


def _problems_of_zeros(block: BlockSettings) -> Iterator[str]:
    """Experts that start at zero, beside copies."""
    if block.stacked:
        yield "stacked: has no residual between strata; set it to false"
    if block.experts.kind != "ffn":
        yield f"experts: those of the kind {block.experts.kind} share tensors, so that some cannot be zero; choose ffn"
    if block.shared_expert in ("cmr", "residual"):
        yield f"shared_expert: {block.shared_expert} mixes with the first stratum alone; set it to none or add"


def preserve_function(weights: dict[str, Tensor], model: Transformer) -> None:
    """Changes the weights of copies in place so that the model computes what the dense one does.

    Args:
        weights: by name, every expert a copy, gates fresh.
        model: with these parameters; :func:`preserve_problem` passed its settings.
    """
    for module in model.modules():
        if isinstance(module, StratifiedMoE):
            experts = range(module.placement.num_experts)
            added = module.block.shared_expert == "add"
            for number in experts if added else _early(module.placement, experts):
                _zero(weights, f"{module.name}.experts.{number}")
            if len(module.block.strata) > 1 and not added:
                _tie_gates(weights, module)


def _zero(weights: dict[str, Tensor], network: str) -> None:
    for part in _LAST_LAYER:
        weights[f"{network}.{part}"] = torch.zeros_like(weights[f"{network}.{part}"])


def _early(placement: Placement, experts: Sequence[int]) -> list[int]:
    """Those that lie in a stratum before the last."""
    last = len(placement.strata) - 1
    return [expert for expert in experts if placement.stratum_of(expert) < last]


def _tie_gates(weights: dict[str, Tensor], layer: StratifiedMoE) -> None:
    """Gives the rows of each group the values of its first."""
    for stratum in range(len(layer.gates)):
        rows_ED = weights[f"{layer.name}.gates.{stratum}"]
        visible = layer.placement.visible_experts(stratum)
        for group in gate_groups(layer.placement, stratum, layer.block.top_k):
            places = [visible.index(expert) for expert in group]
            rows_ED[places] = rows_ED[places[0]].clone()


def gate_groups(placement: Placement, stratum: int, top_k: int) -> list[list[int]]:
    """The experts that a stratum's gate sees, in groups of which a token takes ``top_k`` at once.

    Groups are of ``top_k`` experts of one stratum, the last group of a stratum with those left over. Experts of an
    earlier stratum that has fewer join those of the next earlier one, or the group before; never those of the last
    stratum, so that one group may be too small.

    Args:
        placement: the strata of the block.
        stratum: number of the gate's.
        top_k: experts per token, K.
    """
    visible = list(placement.visible_experts(stratum))
    early = _early(placement, visible)
    groups: list[list[int]] = []
    waiting: list[int] = []
    for number in range(stratum, len(placement.strata) - 1):
        waiting += [expert for expert in early if placement.stratum_of(expert) == number]
        if len(waiting) >= top_k:
            groups += _in_groups(waiting, top_k)
            waiting = []
    if waiting and groups:
        groups[-1] += waiting
    elif waiting:
        groups.append(waiting)
    return groups + _in_groups([expert for expert in visible if expert not in early], top_k)


def _in_groups(experts: list[int], size: int) -> list[list[int]]:
    """Consecutive groups of ``size``, at least that many experts; the last group takes what is left over."""
    starts = range(0, len(experts) - size + 1, size)
    groups = [experts[start : start + size] for start in starts]
    groups[-1] += experts[len(groups) * size :]
    return groups
