"""Directions spread over ranks: each taken once, none much more than its share, results exact after their way."""

from __future__ import annotations

import random

import pytest

from smoe_ds.decode.translation import Translation
from smoe_ds.evaluate.evaluation import DirectionResult
from smoe_ds.evaluate.metrics import Score
from smoe_ds.evaluate.spread import gather_results, shares
from tests.helpers.ranks import run_ranks


@pytest.mark.parametrize("world_size", [1, 2, 3, 8, 40])
def test_every_direction_is_taken_once_and_loads_are_even(world_size: int) -> None:
    sizes = [random.Random(number).randint(0, 1000) for number in range(30)]
    taken = shares(sizes, world_size)
    assert sorted(number for numbers in taken for number in numbers) == list(range(30))
    loads = [sum(sizes[number] for number in numbers) for numbers in taken]
    assert max(loads) <= sum(sizes) / world_size + max(sizes), "the bound of any greedy division"
    assert len(taken) == world_size and sum(map(bool, taken)) == min(world_size, 30)


def result(number: int) -> DirectionResult:
    value = random.Random(number).random()
    translations = [Translation(f"text {number} ë\u2028", -value / 3, "translated", (5, number), 4)]
    untrained = Score(value, 0.1, 0.0) if number % 2 else None
    score, copied = Score(value, value / 7, 1.0), Score(0, 0, 0)
    signatures = {"BLEU": "tok:zh", "chrF++": "nc:6"}
    return DirectionResult(f"eng-x{number}", score, copied, untrained, translations, 0.5, "zh", signatures)


def gathered(rank: int, world_size: int) -> list[DirectionResult]:
    return gather_results({number: result(number) for number in range(7) if number % world_size == rank and rank < 2})


@pytest.mark.multirank
def test_results_come_over_exactly_and_in_order() -> None:
    for found in run_ranks(gathered, 3):
        assert found == [result(number) for number in (0, 1, 3, 4, 6)]
