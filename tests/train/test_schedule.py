"""The learning rate at the steps where the formula can be read off."""

from __future__ import annotations

from itertools import pairwise

import pytest

from smoe_ds.train.schedule import cooldown_factor, inverse_sqrt_lr


@pytest.mark.parametrize(
    ("step", "expected"),
    [(1, 1e-7 + (8e-4 - 1e-7) / 8000), (4000, (1e-7 + 8e-4) / 2), (8000, 8e-4), (32000, 4e-4), (800_000, 8e-5)],
)
def test_warm_up_and_inverse_square_root(step: int, expected: float) -> None:
    assert inverse_sqrt_lr(step, 8e-4, 8000, 1e-7) == pytest.approx(expected, rel=1e-12)


def test_without_warm_up_it_starts_at_the_peak() -> None:
    assert inverse_sqrt_lr(1, 1e-3, 0, 1e-7) == 1e-3
    assert inverse_sqrt_lr(4, 1e-3, 0, 1e-7) == pytest.approx(5e-4)


def test_no_jump_at_the_end_of_the_warm_up() -> None:
    rates = [inverse_sqrt_lr(step, 1e-3, 50, 0.0) for step in range(1, 200)]
    assert max(rates) == pytest.approx(1e-3)
    assert all(abs(a - b) <= 2.1e-5 for a, b in pairwise(rates))


def test_the_last_steps_go_down_to_nothing_in_a_straight_line() -> None:
    assert [cooldown_factor(step, 10, 4) for step in range(1, 13)] == pytest.approx(
        [1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0, 0]
    )
    assert [cooldown_factor(step, 3, 0) for step in (1, 3, 5)] == [1, 1, 1]
    assert [cooldown_factor(step, 2, 2) for step in (1, 2)] == pytest.approx([2 / 3, 1 / 3])
