"""Time by phase: what is inside another phase counts once, and outside of a step nothing does."""

from __future__ import annotations

import time

import psutil
import pytest
import torch

from smoe_ds.train.memory import peak_memory
from smoe_ds.train.phases import PHASES, PhaseClock


def test_phases_add_up_and_inner_ones_count_once() -> None:
    clock = PhaseClock(torch.device("cpu"))
    began = time.perf_counter()
    for _ in range(2):
        with clock.phase("data"):
            time.sleep(0.01)
        with clock.phase("forward"):
            time.sleep(0.02)
            with clock.exchange():
                time.sleep(0.04)
    whole = time.perf_counter() - began
    with clock.exchange():  # in a validation
        time.sleep(0.05)
    taken = clock.take()
    assert tuple(taken) == PHASES
    assert (taken["backward"], taken["optimizer"]) == (0.0, 0.0)
    assert taken["data"] >= 0.02 and taken["forward"] >= 0.04 and taken["exchange"] >= 0.08
    assert sum(taken.values()) <= whole, "something counts twice"
    assert set(clock.take().values()) == {0.0}


def test_a_phase_that_fails_ends() -> None:
    clock = PhaseClock(torch.device("cpu"))
    with pytest.raises(ValueError), clock.phase("backward"):
        raise ValueError
    with clock.exchange():
        time.sleep(0.01)
    assert clock.take()["exchange"] == 0.0


def test_memory_at_the_peak() -> None:
    """It grows by what is held beyond the peak so far, which earlier tests of this process may have set."""
    before = peak_memory(torch.device("cpu"))["host"]
    below = before - psutil.Process().memory_info().rss
    held = torch.ones((below + 2**26) // 4)
    grown = peak_memory(torch.device("cpu"))["host"] - before
    del held
    assert 2**25 <= grown <= 2**27
    assert peak_memory(torch.device("cpu"))["host"] == before + grown, "what is given back leaves the peak"
