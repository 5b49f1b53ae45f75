"""Means of scores over groups of directions: from and to the pivot, by resource level, and all, as in the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smoe_ds.evaluate.direction_scores import DirectionScores

_LEVELS = ("high", "medium", "low", "very_low", "zero-shot")
"""The order of the paper's resource levels; others come behind, as they are met."""


@dataclass(frozen=True)
class Average:
    """Mean of a group of directions, every direction counting the same.

    Attributes:
        name: of the group: ``eng-xxx``, ``xxx-eng`` or ``all``, or one of these and a resource level: ``eng-xxx low``.
        directions: number of them.
        bleu: BLEU, 0 to 100.
        chrf: chrF++, 0 to 100.
        copied_bleu: BLEU of the sources in place of translations.
        untrained_bleu: BLEU of the model before training; None where it was not asked for.
        tokenizers: BLEU's, in alphabetical order; with more than one, the mean of BLEU has no unit of its own.
        spbleu: spBLEU beside BLEU; None where it was not measured.
        comet: COMET; None where it was not asked for.
    """

    name: str
    directions: int
    bleu: float
    chrf: float
    copied_bleu: float
    untrained_bleu: float | None
    tokenizers: tuple[str, ...]
    spbleu: float | None = None
    comet: float | None = None


def pivot_of(directions: Sequence[str]) -> str | None:
    """The one language that all directions share; None where there is none, or where there are two (a single pair)."""
    shared = set.intersection(*(set(direction.split("-")) for direction in directions))
    return shared.pop() if len(shared) == 1 else None


def groups(directions: Sequence[str], levels: Sequence[str | None] = (), *, smallest: int = 2) -> dict[str, list[int]]:
    """Places of the directions from the pivot, to the pivot, and of all; behind each of these, by resource level.

    Args:
        directions: their names.
        levels: the resource level of each, None where it has none; empty if no direction has one.
        smallest: directions that a side, or all, needs not to be left out; a level may have a single one.
    """
    pivot = pivot_of(directions)
    found: dict[str, list[int]] = {}
    everything = list(range(len(directions)))
    sides = {} if pivot is None else {f"{pivot}-xxx": 0, f"xxx-{pivot}": 1}
    for name, side in sides.items():
        places = [place for place, direction in enumerate(directions) if direction.split("-")[side] == pivot]
        if len(places) >= smallest:
            found |= {name: places, **_by_level(f"{name} ", places, levels)}
    if len(everything) >= smallest:
        found |= _by_level("", everything, () if sides else levels)
        found["all"] = everything
    return found


def _by_level(prefix: str, places: Sequence[int], levels: Sequence[str | None]) -> dict[str, list[int]]:
    """The places of each level; none where all are of one."""
    by_level: dict[str, list[int]] = {}
    for place in places if levels else ():
        level = levels[place]
        if level is not None:
            by_level.setdefault(level, []).append(place)
    ordered = sorted(by_level, key=lambda level: _LEVELS.index(level) if level in _LEVELS else len(_LEVELS))
    return {f"{prefix}{level}": by_level[level] for level in ordered if len(by_level[level]) < len(places)}


def averages(results: Sequence[DirectionScores], *, smallest: int = 2) -> list[Average]:
    """Means over the groups of directions, see `groups`."""
    found = groups([one.direction for one in results], [one.level for one in results], smallest=smallest)
    return [_average(name, [results[place] for place in places]) for name, places in found.items()]


def _average(name: str, group: Sequence[DirectionScores]) -> Average:
    untrained = [result.untrained.bleu for result in group if result.untrained is not None]
    return Average(
        name=name,
        directions=len(group),
        bleu=mean([result.score.bleu for result in group]),
        chrf=mean([result.score.chrf for result in group]),
        copied_bleu=mean([result.copied.bleu for result in group]),
        untrained_bleu=mean(untrained) if untrained else None,
        tokenizers=tuple(sorted({result.tokenizer for result in group})),
        spbleu=_mean_if_all([result.spbleu for result in group]),
        comet=_mean_if_all([result.comet for result in group]),
    )


def _mean_if_all(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return mean(there) if len(there) == len(values) else None


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean of at least one number."""
    return sum(values) / len(values)
