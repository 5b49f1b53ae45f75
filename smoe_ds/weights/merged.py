"""Several experts made one: hidden units brought into one order, then averaged, and their rows in the gates too.

The gate's row of a group is the mean of its members' rows, with the same weights as their matrices. That gives the
group the mean of their logits. Its probability before was the log-sum-exp of them, which no row of a gate without bias
can give; so a merged expert is chosen less often than its members were together.

Source: merging as in arXiv 2407.09590; units in different orders are the same network, hence the matching, as in model
soups by weight matching (Git Re-Basin, arXiv 2209.04836, 3.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from smoe_ds.errors import CheckpointError
from smoe_ds.moe.placement import Placement
from smoe_ds.weights.assignment import assign
from smoe_ds.weights.pruned import BY_VISIBLE_EXPERT

_ROWS, _COLUMNS = ("w1", "b1", "w3", "b3"), ("w2",)
_WHOLE = ("b2",)


@dataclass(frozen=True)
class Group:
    """Experts of one stratum that become one.

    Attributes:
        experts: logical numbers; the first one's number and order of units stay.
        shares: what each counts, summing to 1.
    """

    experts: tuple[int, ...]
    shares: tuple[float, ...]


def merge_weights(
    weights: Mapping[str, Tensor], placements: Mapping[str, Placement], groups: Mapping[str, Sequence[Group]]
) -> dict[str, Tensor]:
    """The weights with each group in the place of its first expert; the others are still there, to be pruned.

    Args:
        weights: of the whole model, by logical name.
        placements: strata of each block.
        groups: by block name; single experts need not be named.

    Raises:
        CheckpointError: an expert is no plain feed-forward network.
    """
    result = dict(weights)
    for block, its_groups in groups.items():
        for group in its_groups:
            members = [_expert(weights, f"{block}.experts.{e}.") for e in group.experts]
            for name, weight in merged_expert(members, group.shares).items():
                result[f"{block}.experts.{group.experts[0]}.{name}"] = weight
            for name in [name for name in result if name.startswith(f"{block}.")]:
                for start in BY_VISIBLE_EXPERT:
                    if (inner := name[len(block) + 1 :]).startswith(start):
                        visible = list(placements[block].visible_experts(int(inner[len(start) :])))
                        result[name] = _merged_rows(result[name], visible, group)
    return result


def merged_expert(members: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """The weighted mean of experts whose hidden units are first brought into the order of the first one's.

    Args:
        members: parameters by name: ``w1`` [F, D], ``b1`` [F], ``w2`` [D, F], ``b2`` [D]; of ``swiglu`` ``w3``, ``b3``.
        shares: weight of each.
    """
    ordered = [members[0], *(in_order_of(members[0], member) for member in members[1:])]
    return {name: _mean([member[name] for member in ordered], shares) for name in members[0]}


def in_order_of(first: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The other expert with its hidden units moved to where they differ least from the first one's, in squares."""
    order = torch.from_numpy(assign(-(_units(first) @ _units(other).t()).numpy()))
    return {
        name: weight if name in _WHOLE else weight[:, order] if name in _COLUMNS else weight[order]
        for name, weight in other.items()
    }


def _units(expert: Mapping[str, Tensor]) -> Tensor:
    """All weights of each hidden unit, float64 [F, ...]."""
    rows = [expert[name].reshape(len(expert["b1"]), -1) for name in _ROWS if name in expert]
    return torch.cat([*rows, expert["w2"].t()], dim=1).double()


def _mean(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    total = torch.stack([share * tensor.double() for share, tensor in zip(shares, tensors, strict=True)]).sum(0)
    return (total if tensors[0].is_floating_point() else total.round()).to(tensors[0].dtype)


def _merged_rows(rows_E: Tensor, visible: list[int], group: Group) -> Tensor:
    """The rows of a gate [E, ...], that of the group's first expert being the mean of all of them."""
    if group.experts[0] not in visible:
        return rows_E
    places = [visible.index(e) for e in group.experts]
    rows_E = rows_E.clone()
    rows_E[places[0]] = _mean([rows_E[place] for place in places], group.shares)
    return rows_E


def _expert(weights: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    found = {name.removeprefix(start): weight for name, weight in weights.items() if name.startswith(start)}
    if not {"w1", "b1", "w2", "b2"} <= set(found) <= {*_ROWS, *_COLUMNS, *_WHOLE}:
        raise CheckpointError(f"{start[:-1]}: is no plain feed-forward network; only such experts can be merged")
    return found
