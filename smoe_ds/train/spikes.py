"""Which updates are left out: loss or gradient norm far above their recent values."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import Any

_SHARE = 0.5  # of the window that must have been seen before anything is left out


class SpikeDetector:
    """Running medians of loss and gradient norm over the last steps that were taken.

    Args:
        factor: a value above this factor of its median is a spike; None: nothing is.
        window: steps that the median is over.
    """

    def __init__(self, factor: float | None, window: int) -> None:
        self.factor = factor
        self._window = window
        self._values: dict[str, deque[float]] = {name: deque(maxlen=window) for name in ("loss", "norm")}

    def limit(self, name: str) -> float:
        """Highest value of "loss" or "norm" that is no spike; infinite while too few steps have been seen."""
        values = self._values[name]
        if self.factor is None or len(values) < _SHARE * self._window:
            return math.inf
        return self.factor * median(values)

    def add(self, loss: float, norm: float) -> None:
        """Counts a step that was taken."""
        if self.factor is not None:
            self._values["loss"].append(loss)
            self._values["norm"].append(norm)

    def state(self) -> dict[str, list[float]]:
        """What a checkpoint keeps, as JSON."""
        return {name: list(values) for name, values in self._values.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Puts back what `state` returned; another window keeps what fits."""
        for name, values in self._values.items():
            kept: Sequence[float] = state[name]
            values.clear()
            values.extend(kept)
