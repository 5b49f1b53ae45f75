"""How far a run is, in steps and in time, over all its parts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progress:
    """What a checkpoint keeps beside the weights, the optimizer and the data position.

    Attributes:
        step: optimizer steps taken (skipped ones included).
        skipped_steps: steps skipped for a gradient that was not finite.
        skipped_spikes: steps skipped for a loss or gradient norm far above what it was.
        skipped_in_a_row: steps skipped since the last that was taken.
        seconds: time spent in the run so far, over all its parts [s].
        tokens: source and target tokens of all steps so far; None if the run began before they were counted.
        step_seconds: time in steps so far, waiting for data included [s]; None likewise.
        best_nll: lowest mean validation loss so far [nat].
        last_validation: step of the last validation.
        validation_nll: mean validation loss then [nat].
    """

    step: int = 0
    skipped_steps: int = 0
    skipped_spikes: int = 0
    skipped_in_a_row: int = 0
    seconds: float = 0.0
    best_nll: float | None = None
    last_validation: int = 0
    validation_nll: float | None = None
    tokens: int | None = 0
    step_seconds: float | None = 0.0

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Progress:
        """What a checkpoint kept, perhaps one from before tokens and time in steps were counted."""
        return cls(**{"tokens": None, "step_seconds": None, **state})

    def count(self, *, skipped: bool, not_finite: bool) -> None:
        """Counts a step that was taken or skipped."""
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if skipped else 0
        self.skipped_steps += skipped and not_finite
        self.skipped_spikes += skipped and not not_finite

    def spent(self, seconds: float, tokens: int = 0) -> None:
        """Counts time in steps [s], and tokens of a step."""
        if self.tokens is not None and self.step_seconds is not None:
            self.tokens += tokens
            self.step_seconds += seconds

    def validated(self, nll: float) -> bool:
        """Notes a mean validation loss [nat]; whether it is the lowest so far."""
        self.validation_nll = nll
        best = self.best_nll is None or nll < self.best_nll
        if best:
            self.best_nll = nll
        return best


@dataclass
class Clock:
    """Time of the run, continued over interruptions, and of the steps since the last log line [s].

    Attributes:
        before: time of the run's earlier parts.
        started: when this part began.
        in_steps: time in steps since the last log line; validation and saving do not count.
        steps: steps since the last log line.
    """

    before: float
    started: float = field(default_factory=time.monotonic)
    in_steps: float = 0.0
    steps: int = 0

    def total(self) -> float:
        """Time since the run first started, pauses between its parts excluded [s]."""
        return self.before + time.monotonic() - self.started

    def take_interval(self) -> tuple[float, int]:
        """Time in steps [s] and number of steps since the last call."""
        taken = self.in_steps, self.steps
        self.in_steps, self.steps = 0.0, 0
        return taken

    def left(self, steps: int, seconds_per_step: float, max_minutes: float | None) -> float:
        """Expected time to the end of the run [s].

        Args:
            steps: that are left.
            seconds_per_step: what one takes [s].
            max_minutes: longest time of the run [min]; None: its steps alone decide.
        """
        by_steps = steps * seconds_per_step
        return by_steps if max_minutes is None else min(by_steps, 60 * max_minutes - self.total())
