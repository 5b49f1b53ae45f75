"""Run configuration: one DeepSpeed JSON with a ``"smoe"`` section.

``load_run`` reads and checks it, ``RunConfig`` holds it, ``finalize_deepspeed`` makes DeepSpeed's part of it ready
for a number of ranks. Nothing here imports torch or deepspeed before it is needed.
"""

from __future__ import annotations

from smoe_ds.config.checks import check_device, check_world
from smoe_ds.config.finalize import finalize_deepspeed
from smoe_ds.config.load import load_run
from smoe_ds.config.run import RunConfig
from smoe_ds.config.smoe import SmoeConfig

__all__ = ["RunConfig", "SmoeConfig", "check_device", "check_world", "finalize_deepspeed", "load_run"]
