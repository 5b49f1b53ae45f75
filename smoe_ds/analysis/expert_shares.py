"""Which experts the tokens of each language choose, and how evenly each stratum spreads its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smoe_ds.analysis.routing_use import BlockUse, DirectionUse, StratumUse, language_of, side_of
from smoe_ds.data.ragged import Int64

ALL = "all"
"""Stands for all directions, or all languages."""


@dataclass(frozen=True)
class LanguageShares:
    """The choices of one language's tokens in one block.

    Attributes:
        side: ``encoder`` or ``decoder``.
        block: its name.
        language: what the side reads; `ALL` for all of them.
        stratum_E: the stratum of each expert [E].
        first_E: times each expert was a first choice, int64 [E].
        all_E: times it was any choice, int64 [E].
    """

    side: str
    block: str
    language: str
    stratum_E: Int64
    first_E: Int64
    all_E: Int64

    @property
    def share_E(self) -> NDArray[np.float64]:
        """Share of the (token, expert) pairs that fell on each expert, float64 [E]."""
        return self.all_E / max(int(self.all_E.sum()), 1)


@dataclass(frozen=True)
class StratumLoads:
    """One stratum of one block in one direction; what is a mean over tokens is None where none entered.

    Attributes:
        side: ``encoder`` or ``decoder``.
        block: its name.
        stratum: from 0.
        direction: `ALL` for all of them.
        tokens: tokens that entered; slices of tokens in a block with heads.
        share_of_tokens: of the tokens that entered the block.
        choices: rows per token.
        load: rows of the busiest expert over the mean of those that the gate sees; 1 is perfect.
        dropped: share of the rows that the run's ``capacity_factor`` would have dropped; None without a limit.
        dead: experts that the gate sees and no token chose.
        entropy: mean entropy of the gate [nat].
        same_stratum: share of the tokens whose first and second choice lie in one stratum; None if no token has two.
    """

    side: str
    block: str
    stratum: int
    direction: str
    tokens: int
    share_of_tokens: float
    choices: float | None
    load: float | None
    dropped: float | None
    dead: int
    entropy: float | None
    same_stratum: float | None


def language_shares(use: Mapping[str, DirectionUse]) -> list[LanguageShares]:
    """Choices per block and language, those of all languages first."""
    found = []
    for block, first in next(iter(use.values())).blocks.items():
        side = side_of(block)
        languages = [ALL, *dict.fromkeys(language_of(side, direction) for direction in use)]
        for language in languages:
            some = [of.blocks[block] for d, of in use.items() if language in (ALL, language_of(side, d))]
            counted = [_choices(one) for one in some]
            first_E, all_E = (np.sum([pair[i] for pair in counted], axis=0) for i in (0, 1))
            found.append(LanguageShares(side, block, language, _strata_of_experts(first), first_E, all_E))
    return found


def stratum_loads(use: Mapping[str, DirectionUse]) -> list[StratumLoads]:
    """Loads per block, stratum and direction, those of all directions first."""
    found = []
    for block, first in next(iter(use.values())).blocks.items():
        for i in range(len(first.strata)):
            by_direction = {direction: of.blocks[block].strata for direction, of in use.items()}
            total = [_total([strata[j] for strata in by_direction.values()]) for j in (0, i)]
            found.append(_loads(block, i, ALL, total[1], total[0].tokens))
            found += [_loads(block, i, name, strata[i], strata[0].tokens) for name, strata in by_direction.items()]
    return found


def _total(strata: list[StratumUse]) -> StratumUse:
    total = strata[0]
    for one in strata[1:]:
        total = total + one
    return total


def _loads(block: str, stratum: int, direction: str, use: StratumUse, block_tokens: int) -> StratumLoads:
    rows_E = use.requested_KE.sum(0)
    rows = int(rows_E.sum())
    return StratumLoads(
        side=side_of(block),
        block=block,
        stratum=stratum,
        direction=direction,
        tokens=use.tokens,
        share_of_tokens=use.tokens / max(block_tokens, 1),
        choices=rows / use.tokens if use.tokens else None,
        load=int(rows_E.max()) * len(rows_E) / rows if rows else None,
        dropped=None if use.over_capacity is None or not rows else use.over_capacity / rows,
        dead=int((rows_E == 0).sum()),
        entropy=use.entropy_sum / use.tokens if use.tokens else None,
        same_stratum=use.same_stratum / use.pairs if use.pairs else None,
    )


def _choices(block: BlockUse) -> tuple[Int64, Int64]:
    """First and all choices of a block by expert."""
    size = max(stratum.visible.stop for stratum in block.strata)
    first_E, all_E = np.zeros(size, np.int64), np.zeros(size, np.int64)
    for stratum in block.strata:
        first_E[stratum.visible] += stratum.requested_KE[0]
        all_E[stratum.visible] += stratum.requested_KE.sum(0)
    return first_E, all_E


def _strata_of_experts(block: BlockUse) -> Int64:
    """The stratum that holds each expert: the last one whose gate sees it and starts at or before it."""
    starts = np.array([stratum.visible.start for stratum in block.strata])
    size = max(stratum.visible.stop for stratum in block.strata)
    return np.searchsorted(starts, np.arange(size), "right") - 1
