"""Whether seeds agree on requested capacity: rank correlations by hand, p by trying all orders."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from smoe_ds.report.study.capacity import agreement_table, chance_table
from smoe_ds.study.capacity import agreements, chances, rank_agreement
from smoe_ds.study.row import Row


def spearman(one: list[float], other: list[float]) -> float:
    """Without ties: 1 - 6 sum of squared differences of ranks / (G (G^2 - 1))."""
    ranks = [[sorted(values).index(value) for value in values] for values in (one, other)]
    size = len(one)
    return 1 - 6 * sum((a - b) ** 2 for a, b in zip(*ranks, strict=True)) / (size * (size**2 - 1))


def test_two_seeds_as_by_hand() -> None:
    one, other = [1.0, 2.0, 3.5, 3.0], [1.1, 1.9, 2.0, 2.5]
    found, p = rank_agreement([one, other])
    assert found == pytest.approx(spearman(one, other))
    orders = [spearman(one, list(order)) for order in permutations(other)]
    assert p == pytest.approx(sum(each >= found - 1e-9 for each in orders) / len(orders))


def test_three_seeds_are_the_mean_of_their_pairs() -> None:
    seeds = [[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]]
    pairs = [spearman(seeds[i], seeds[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    found, p = rank_agreement(seeds)
    assert found == pytest.approx(sum(pairs) / 3)
    assert p > 0.5


def test_many_languages_draw_orders() -> None:
    rising = [float(number) for number in range(15)]
    assert rank_agreement([rising, rising]) == (pytest.approx(1.0), pytest.approx(1 / 5000))
    found, p = rank_agreement([rising, rising[::-1]])
    assert (found, p) == (pytest.approx(-1.0), 1.0)


@pytest.mark.parametrize(
    "values", [[[1.0, 2.0, 3.0]], [[1.0, 2.0], [1.0, 2.0]], [[1.0, 1.0, 1.0], [1.0, 2.0, 3.0]]], ids=str
)
def test_what_says_nothing_has_no_agreement(values: list[list[float]]) -> None:
    assert rank_agreement(values) == (None, None)


def run(system: str, seed: int, languages: dict[str, float], effect: float = 0.1) -> Row:
    chance = [
        {"side": "encoder", "by": by, "effect": effect, "p": 0.25, "sentences": 9} for by in ("language", "position")
    ]
    return Row(system, "", seed, "f", "done", capacity={"language": {"encoder": languages}}, chance=chance)


def test_rows_by_system_and_side() -> None:
    rows = [
        run("smoe", 1, {"nso": 2.0, "cat": 1.0, "eng": 1.5}),
        run("smoe", 2, {"cat": 1.1, "nso": 2.2, "eng": 1.4, "tgl": 1.0}, effect=-0.1),
        run("vanilla", 1, {"nso": 1.0, "cat": 1.0, "eng": 1.0}),  # one stratum: nothing to compare
        Row("smoe", "", 3, "f", "failed"),
    ]
    (found,) = agreements(rows)
    assert (found.system, found.side, found.groups) == ("smoe", "encoder", ("nso", "cat", "eng"))
    assert found.values == {1: [2.0, 1.0, 1.5], 2: [2.2, 1.1, 1.4]}
    assert found.correlation == pytest.approx(1.0)
    by_language, by_position = chances(rows)
    assert (by_language.by, by_language.one_way) == ("language", None)
    assert (by_position.effects, by_position.one_way) == ({1: 0.1, 2: -0.1}, False)
    table = agreement_table([found])
    assert table is not None and agreement_table([replace(found, values={1: [1.0, 2.0]})]) is None
    assert table.texts() == [("smoe", "language", "encoder", "2", "3", "+1.00", "0.167")]
    assert chance_table([by_position]).texts()[0][3:] == ("+0.100 (0.250)", "-0.100 (0.250)", "no")
