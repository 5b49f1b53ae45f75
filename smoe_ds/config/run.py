"""A run: what DeepSpeed is given, and the section of ours."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from smoe_ds.config.smoe import SmoeConfig


@dataclass(frozen=True)
class RunConfig:
    """A resolved, checked run.

    Attributes:
        deepspeed: DeepSpeed's keys, everything surprising written out; batch arithmetic comes with
            :func:`smoe_ds.config.finalize.finalize_deepspeed`, which knows the number of ranks.
        smoe: the section ``"smoe"``.
        source: the run file, for messages.
    """

    deepspeed: dict[str, Any]
    smoe: SmoeConfig
    source: str = field(default="run", compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The run as one JSON object that :func:`smoe_ds.config.load.load_run` reads back to an equal run."""
        return {**copy.deepcopy(self.deepspeed), "smoe": self.smoe.model_dump(mode="json")}

    @property
    def train_batch_size(self) -> int:
        """Micro-batches per optimizer step, over all ranks."""
        return int(self.deepspeed["train_batch_size"])

    @property
    def peak_lr(self) -> float:
        """Learning rate at the end of the warm-up."""
        return float(self.deepspeed["optimizer"]["params"]["lr"])

    @property
    def precision(self) -> str:
        """``fp32``, ``fp16`` or ``bf16``."""
        return next((name for name in ("fp16", "bf16") if self.deepspeed[name]["enabled"]), "fp32")

    @property
    def zero_stage(self) -> int:
        """ZeRO stage."""
        return int(self.deepspeed["zero_optimization"]["stage"])
