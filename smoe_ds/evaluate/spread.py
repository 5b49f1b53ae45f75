"""Directions of an evaluation spread over ranks: who takes which, and all results on every rank."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from smoe_ds.decode.translation import Translation
from smoe_ds.evaluate.evaluation import DirectionResult
from smoe_ds.evaluate.metrics import Confidence, Score
from smoe_ds.evaluate.significance import Paired
from smoe_ds.parallel.agreement import gather_json


def shares(sizes: Sequence[int], world_size: int) -> list[list[int]]:
    """Which directions each rank takes: the largest first, each to the rank that has the least so far.

    Args:
        sizes: of each direction's text, in any unit; 0 where there is nothing left to translate.
        world_size: ranks.

    Returns:
        numbers of directions by rank, ascending; empty for ranks beyond the number of directions.
    """
    taken: list[list[int]] = [[] for _ in range(world_size)]
    loads = [0] * world_size
    for number in sorted(range(len(sizes)), key=lambda number: (-sizes[number], number)):
        rank = loads.index(min(loads))
        taken[rank].append(number)
        loads[rank] += max(1, sizes[number])
    return [sorted(numbers) for numbers in taken]


def gather_results(mine: Mapping[int, DirectionResult]) -> list[DirectionResult]:
    """The results of all ranks in the order of the directions. A collective; numbers come over exactly.

    Args:
        mine: this rank's results by number of the direction.
    """
    gathered = gather_json({str(number): dataclasses.asdict(result) for number, result in mine.items()})
    merged = {int(number): _result(fields) for results in gathered for number, fields in results.items()}
    return [merged[number] for number in sorted(merged)]


def _result(fields: dict[str, Any]) -> DirectionResult:
    scores = {name: Score(**fields[name]) for name in ("score", "copied")}
    kinds = {"untrained": Score, "confidence": Confidence, "paired": Paired}
    optional = {name: None if fields[name] is None else kind(**fields[name]) for name, kind in kinds.items()}
    return DirectionResult(**{**fields, **scores, **optional, "translations": translations_of(fields["translations"])})


def translations_of(entries: Sequence[dict[str, Any]]) -> list[Translation]:
    """Translations that came as JSON."""
    return [Translation(**{**entry, "tokens": tuple(entry["tokens"])}) for entry in entries]
