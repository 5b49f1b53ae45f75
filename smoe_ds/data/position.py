"""Where a stream stands, as JSON: a few integers per direction, and what they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smoe_ds.errors import DataError

# Raised whenever the order of sentences for given settings changes.
FORMAT = 2

_SETTINGS = {
    "fingerprint": "smoe.data.path",
    "seed": "smoe.train.seed",
    "temperature": "smoe.data.temperature",
    "max_tokens": "smoe.data.max_tokens",
    "window": "smoe.data.window",
    "max_positions": "smoe.model.max_positions",
    "source_language_token": "smoe.data.source_language_token",
    "special_tokens_tgt": "smoe.data.target_language_token",
}
"""What a position belongs to, and the settings of a run that decide it."""

_NAMES = {"fingerprint": "the corpus (its fingerprint)", "special_tokens_tgt": "the number of tokens it stands for"}

_BEFORE = {"special_tokens_tgt": 1}
"""What older positions do not say, since it was always so."""

_OTHER_CHECKPOINT = "resume from another checkpoint"


@dataclass(frozen=True)
class Position:
    """State of a stream between two steps.

    Attributes:
        window: number of the current window.
        offset: micro-batches of this window that have been read.
        micro_batch: micro-batches read since the start of the run.
        steps: steps since the start of the run.
        drawn: int64 [D], sentences drawn from each direction before this window, skipped ones included.
        skipped: int64 [D], those of them that were too long.
    """

    window: int
    offset: int
    micro_batch: int
    steps: int
    drawn: NDArray[np.int64]
    skipped: NDArray[np.int64]

    @classmethod
    def start(cls, num_directions: int) -> Position:
        """The position before the first sentence."""
        zeros = np.zeros(num_directions, dtype=np.int64)
        return cls(window=0, offset=0, micro_batch=0, steps=0, drawn=zeros, skipped=zeros)

    def to_json(self, belongs_to: Mapping[str, Any], directions: Sequence[str]) -> dict[str, Any]:
        """The position, made of dicts, strings and numbers, with what it belongs to: seed, fingerprint, settings."""
        return {
            "format": FORMAT,
            "belongs_to": dict(belongs_to),
            "window": self.window,
            "offset": self.offset,
            "micro_batch": self.micro_batch,
            "steps": self.steps,
            "drawn": dict(zip(directions, self.drawn.tolist(), strict=True)),
            "skipped": dict(zip(directions, self.skipped.tolist(), strict=True)),
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any], belongs_to: Mapping[str, Any], directions: Sequence[str]) -> Position:
        """Reads what :meth:`to_json` gave.

        Raises:
            DataError: the position belongs to another corpus, seed or setting, or is damaged.
        """
        if saved.get("format") != FORMAT:
            raise DataError(
                f"data position: expected format {FORMAT}, found {saved.get('format')!r}; "
                "resume with the release of smoe_ds that wrote it"
            )
        saved_for = saved.get("belongs_to")
        if not isinstance(saved_for, Mapping):
            raise DataError(f"data position: belongs_to: expected an object, found {saved_for!r}; {_OTHER_CHECKPOINT}")
        for name, here in belongs_to.items():
            if (saved_one := saved_for.get(name, _BEFORE.get(name))) != here:
                what = _NAMES.get(name, "it")
                raise DataError(
                    f"data position: {_SETTINGS.get(name, name)}: {what} is {saved_one!r} in the saved "
                    f"position, {here!r} in this run; resume with what the run was started with, or start a new run in "
                    "another output_dir"
                )
        return cls(
            **{name: _count(saved, name) for name in ("window", "offset", "micro_batch", "steps")},
            drawn=_counts(saved, "drawn", directions),
            skipped=_counts(saved, "skipped", directions),
        )


def _count(saved: Mapping[str, Any], name: str) -> int:
    value = saved.get(name)
    if type(value) is not int or not 0 <= value < 2**63:
        raise DataError(f"data position: {name}: expected an integer >= 0, found {value!r}; {_OTHER_CHECKPOINT}")
    return value


def _counts(saved: Mapping[str, Any], name: str, directions: Sequence[str]) -> NDArray[np.int64]:
    counts = saved.get(name)
    if not isinstance(counts, Mapping):
        raise DataError(f"data position: {name}: expected a count per direction, found {counts!r}; {_OTHER_CHECKPOINT}")
    differing = sorted(set(counts) ^ set(directions))
    if differing:
        raise DataError(
            f"data position: directions differ from this run's in {', '.join(map(str, differing))}; "
            "train the directions the run was started with, or start a new run in another output_dir"
        )
    return np.array([_count(counts, direction) for direction in directions], dtype=np.int64)
