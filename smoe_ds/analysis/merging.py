"""Which experts become one: those of a stratum whose outputs on held-out text are alike, by average linkage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from smoe_ds.analysis.expert_use import ExpertUse
from smoe_ds.analysis.pruning import check_prunable, fewest_kept, held_out_batches, measure_use, use_as_json
from smoe_ds.analysis.similarity import expert_similarity, sampled_tokens
from smoe_ds.config.block import BlockSettings
from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.translator import Translator
from smoe_ds.errors import ConfigError
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.moe.placement import Placement
from smoe_ds.weights.merged import Group
from smoe_ds.weights.pruned import placement_of


@dataclass(frozen=True)
class Merging:
    """Which experts become one, and from what that was decided.

    Attributes:
        number: experts left per block.
        directions: those the model is to serve.
        split: held-out text on which experts were compared and their choices counted.
        corpus: fingerprint of the corpus with that text.
        use: choices by direction and block.
        similarity: CKA of every two experts by block [E, E].
        groups: groups of two and more experts by block name.
        num_experts: experts of each whole block.
        too_long: sentence pairs by direction that were left out as too long; none: no entry.
    """

    number: int
    directions: tuple[str, ...]
    split: str
    corpus: str
    use: Mapping[str, Mapping[str, ExpertUse]]
    similarity: Mapping[str, Tensor]
    groups: Mapping[str, Sequence[Group]]
    num_experts: Mapping[str, int]
    too_long: Mapping[str, int]

    @property
    def removed(self) -> dict[str, list[int]]:
        """Logical numbers by block name of the experts that have become part of another one."""
        return {
            block: sorted(e for group in groups for e in group.experts[1:]) for block, groups in self.groups.items()
        }

    def as_json(self) -> dict[str, Any]:
        """As an export keeps it, beside the removed experts."""
        return {
            "rule": {"merge": self.number},
            "directions": list(self.directions),
            "split": self.split,
            "corpus": self.corpus,
            "too_long": dict(self.too_long),
            "groups": {
                block: [{"experts": list(group.experts), "shares": list(group.shares)} for group in groups]
                for block, groups in self.groups.items()
            },
            "similarity": {block: similarity_EE.tolist() for block, similarity_EE in self.similarity.items()},
            "use": use_as_json(self.use),
        }


def choose_groups(
    translator: Translator,
    corpus: Corpus,
    split: str,
    directions: Sequence[str],
    blocks: Mapping[str, BlockSettings],
    number: int,
) -> Merging:
    """Compares experts and counts their choices, and decides which become one.

    Args:
        translator: the whole model.
        corpus: with the text to compare on.
        split: of it.
        directions: those the model is to serve.
        blocks: settings of its blocks by name.
        number: experts left per block.

    Raises:
        ConfigError: a number of experts that cannot be, experts that are no networks of their own, or a router that
            cannot do without some.
        DataError: the corpus has another vocabulary or no sentence of a direction.
    """
    check_prunable(blocks)
    for name, block in blocks.items():
        if block.experts.module is not None:
            raise ConfigError(f"{name}: experts of the kind {block.experts.kind} cannot be merged; use --keep-experts")
        _check_number(number, block)
    batches = held_out_batches(translator, corpus, split, directions)
    with sampled_tokens(translator.model) as samples:
        use = measure_use(translator, batches)
    modules = {name: translator.model.get_submodule(name) for name in blocks}
    similarity = {
        name: expert_similarity(module, samples[name])
        for name, module in modules.items()
        if isinstance(module, StratifiedMoE)
    }
    groups = {}
    for name, block in blocks.items():
        share_E = torch.stack([of_direction[name].share_E for of_direction in use.values()]).mean(0)
        groups[name] = [_group(own, share_E) for own in _grouped(similarity[name], block, number) if len(own) > 1]
    return Merging(
        number=number,
        directions=tuple(directions),
        split=split,
        corpus=corpus.fingerprint,
        use=use,
        similarity=similarity,
        groups=groups,
        num_experts={name: sum(block.strata) for name, block in blocks.items()},
        too_long={direction: one.skipped for direction, one in batches.items() if one.skipped},
    )


def _fewest(block: BlockSettings) -> list[int]:
    return fewest_kept(placement_of(block), block.router.fewest_experts(block))


def _check_number(number: int, block: BlockSettings) -> None:
    fewest, total = sum(_fewest(block)), sum(block.strata)
    if not fewest <= number <= total:
        raise ConfigError(
            f"--merge-experts {number}: expected {fewest} to {total}: each stratum of {block.strata} keeps an expert, "
            f"and a token's last gate sees top_k = {block.top_k}"
        )


def _grouped(similarity_EE: Tensor, block: BlockSettings, number: int) -> list[tuple[int, ...]]:
    return group_experts(similarity_EE, placement_of(block), _fewest(block), number)


def group_experts(
    similarity_EE: Tensor, placement: Placement, fewest: Sequence[int], number: int
) -> list[tuple[int, ...]]:
    """All experts of a block in groups, by their lowest numbers: agglomerative clustering with average linkage.

    The two groups of a stratum with the highest mean similarity become one, until ``number`` are left; of equal ones
    those with the lowest numbers.

    Args:
        similarity_EE: of every two experts.
        placement: strata of the block.
        fewest: groups that each stratum keeps at least.
        number: groups to make, from the sum of ``fewest`` to E.
    """
    groups: list[tuple[int, ...]] = [(e,) for e in range(placement.num_experts)]
    while len(groups) > number:
        left = [sum(placement.stratum_of(own[0]) == i for own in groups) for i in range(len(placement.strata))]
        pairs = [
            (one, other)
            for one, other in combinations(groups, 2)
            if (i := placement.stratum_of(one[0])) == placement.stratum_of(other[0]) and left[i] > fewest[i]
        ]
        one, other = max(pairs, key=lambda pair: float(similarity_EE[list(pair[0])][:, list(pair[1])].mean()))
        groups = sorted([*(own for own in groups if own not in (one, other)), tuple(sorted(one + other))])
    return groups


def _group(experts: tuple[int, ...], share_E: Tensor) -> Group:
    """The group with its most used expert first; each counts as it is used, all the same if none is."""
    ranking = sorted(experts, key=lambda e: (-float(share_E[e]), e))
    total = float(share_E[list(experts)].sum())
    shares = [float(share_E[e]) / total if total else 1 / len(experts) for e in ranking]
    return Group(tuple(ranking), tuple(shares))
