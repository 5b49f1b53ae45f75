"""How often the first and the second choice of a token lie in the same stratum, heard from the routers themselves."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from smoe_ds.analysis.listening import listen
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.moe.mixture import Mixture
from smoe_ds.moe.routing import Routing


class ChoicePairs:
    """Listens to the routers of blocks while it is entered.

    Args:
        blocks: by name.
    """

    def __init__(self, blocks: Mapping[str, StratifiedMoE]) -> None:
        self._blocks = blocks
        self._handles: list[RemovableHandle] = []
        self._last: dict[tuple[str, int], Tensor] = {}

    def __enter__(self) -> ChoicePairs:
        self._handles = listen(self._blocks, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def take(self, name: str) -> list[tuple[int, int]]:
        """Of each stratum of a block in the last forward pass: tokens with two choices, and those whose choices lie in
        the same stratum."""
        strata = range(len(self._blocks[name].mixtures))
        rows = torch.stack([self._last.pop((name, i)) for i in strata]).tolist()
        return [(pairs, same) for pairs, same in rows]

    def _hear(self, name: str, mixture: Mixture, routing: Routing) -> None:
        self._last[name, mixture.stratum] = count_pairs(routing, mixture.stratum_after)


def count_pairs(routing: Routing, stratum_after_E: Tensor) -> Tensor:
    """Tokens that took both a first and a second choice, and those whose two lie in the same stratum, int64 [2].

    Args:
        routing: choices of T tokens.
        stratum_after_E: the stratum after each visible expert's [E].
    """
    expert_TK = routing.expert_TK[:, :2]
    if expert_TK.shape[1] < 2:
        return torch.zeros(2, dtype=torch.long, device=expert_TK.device)
    after_T2 = stratum_after_E[expert_TK]
    same_T = after_T2[:, 0] == after_T2[:, 1]
    both_T = torch.ones_like(same_T) if routing.chosen_TK is None else routing.chosen_TK[:, :2].all(1)
    return torch.stack([both_T.sum(), (same_T & both_T).sum()])
