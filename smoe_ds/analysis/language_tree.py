"""How alike languages are by the experts they choose: Jensen-Shannon divergences, and a tree made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smoe_ds.analysis.expert_shares import ALL, LanguageShares
from smoe_ds.analysis.requested_capacity import MEAN

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Node:
    """A language, or two branches that were joined.

    Attributes:
        name: of the language; empty for a joint.
        height: mean divergence between the two branches' languages [bit]; 0 for a language.
        branches: none, or two.
    """

    name: str = ""
    height: float = 0.0
    branches: tuple[Node, ...] = ()

    @property
    def leaves(self) -> tuple[str, ...]:
        """The languages below, from the first to the last."""
        return tuple(name for branch in self.branches for name in branch.leaves) or (self.name,)

    def newick(self) -> str:
        """The tree in Newick format without the final semicolon; two languages are as far apart as their joint's
        height."""
        if not self.branches:
            return self.name
        parts = (f"{one.newick()}:{(self.height - one.height) / 2:.6g}" for one in self.branches)
        return f"({','.join(parts)})"

    def as_json(self) -> dict[str, object]:
        """Nested objects."""
        if not self.branches:
            return {"language": self.name}
        return {"divergence": self.height, "branches": [one.as_json() for one in self.branches]}


@dataclass(frozen=True)
class Divergences:
    """How far languages are apart.

    Attributes:
        side: ``encoder`` or ``decoder``.
        languages: N of them.
        by_block: divergences by block name [N, N], in bit; under `MEAN` the mean over the blocks.
    """

    side: str
    languages: tuple[str, ...]
    by_block: Mapping[str, Float64]

    @property
    def tree(self) -> Node:
        """Of the mean over the blocks."""
        return average_linkage(self.languages, self.by_block[MEAN])


def divergences(shares: Sequence[LanguageShares]) -> list[Divergences]:
    """Divergences of each side that has blocks."""
    found = []
    for side in dict.fromkeys(one.side for one in shares):
        of_side = [one for one in shares if one.side == side and one.language != ALL]
        languages = tuple(dict.fromkeys(one.language for one in of_side))
        blocks = {}
        for block in dict.fromkeys(one.block for one in of_side):
            rows = [one.share_E for one in of_side if one.block == block]
            blocks[block] = np.array([[jensen_shannon(p, q) for q in rows] for p in rows])
        blocks[MEAN] = np.mean(list(blocks.values()), axis=0)
        found.append(Divergences(side, languages, blocks))
    return found


def jensen_shannon(p_E: Float64, q_E: Float64) -> float:
    """Divergence of two distributions over E experts, with logarithms to the base 2: 0 for equal ones, 1 for disjoint
    ones.

    Source: Lin, "Divergence measures based on the Shannon entropy" (1991), with equal weights.
    """
    middle_E = (p_E + q_E) / 2
    return (_relative_entropy(p_E, middle_E) + _relative_entropy(q_E, middle_E)) / 2


def _relative_entropy(p_E: Float64, q_E: Float64) -> float:
    some = p_E > 0
    return float((p_E[some] * np.log2(p_E[some] / q_E[some])).sum())


def average_linkage(names: Sequence[str], distance_NN: Float64) -> Node:
    """Joins the two closest branches until one is left; branches are as far apart as their leaves are on average.

    Args:
        names: N leaves, at least one.
        distance_NN: symmetric distances. Of equally close pairs the one that comes first in ``names`` is joined.
    """
    place = {name: i for i, name in enumerate(names)}
    branches = [Node(name) for name in names]

    def between(one: Node, other: Node) -> float:
        rows, columns = ([place[name] for name in node.leaves] for node in (one, other))
        return float(distance_NN[np.ix_(rows, columns)].mean())

    while len(branches) > 1:
        pairs = [(a, b) for a in range(len(branches)) for b in range(a + 1, len(branches))]
        a, b = min(pairs, key=lambda pair: between(branches[pair[0]], branches[pair[1]]))
        joint = Node(height=between(branches[a], branches[b]), branches=(branches[a], branches[b]))
        branches = [*branches[:a], joint, *branches[a + 1 : b], *branches[b + 1 :]]
    return branches[0]
