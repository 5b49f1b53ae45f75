"""The parts of a corpus."""

from __future__ import annotations

from typing import Literal, get_args

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
HELD_OUT = SPLITS[1:]
"""Those that no run is trained on."""
