"""What every check is given: the run, this process, the other ranks, and how thorough to be."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.doctor.meeting import Meeting

if TYPE_CHECKING:
    from torch import device as Device

    from smoe_ds.config.run import RunConfig
    from smoe_ds.parallel.env import Env
    from smoe_ds.planning.plan import Plan


@dataclass(frozen=True)
class Context:
    """What a check may look at.

    Attributes:
        run: the checked run.
        env: this process.
        meeting: the other ranks.
        quick: leave out what takes minutes.
        full: read every byte of corpus and newest checkpoint.
        seconds: what a check may take before it counts as hanging [s].
        environ: environment variables.
        clock: seconds since 1970.
    """

    run: RunConfig
    env: Env
    meeting: Meeting
    quick: bool = False
    full: bool = False
    seconds: float = 60.0
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    clock: Callable[[], float] = time.time

    @property
    def output_dir(self) -> Path:
        """The run folder."""
        return Path(self.run.smoe.train.output_dir)

    @cached_property
    def vocab_size(self) -> int:
        """That of the prepared corpus, else what the run says of it, else the paper's."""
        from smoe_ds.planning.vocabulary import planned_vocab_size

        return planned_vocab_size(self.run)[0]

    @cached_property
    def plan(self) -> Plan:
        """Memory, parameters and exchange of the run on so many ranks, computed on this rank's device."""
        from smoe_ds.moe.expert_backend_here import accelerator_of
        from smoe_ds.planning.plan import make_plan

        accelerator = accelerator_of(self.device)
        return make_plan(self.run, vocab_size=self.vocab_size, world_size=self.env.world_size, accelerator=accelerator)

    @cached_property
    def device(self) -> Device:
        """Where this rank would compute: its GPU where DS_ACCELERATOR and PyTorch let it, else the CPU."""
        import torch

        chosen = self.environ.get("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
        if chosen == "cpu" or not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", 0 if torch.cuda.device_count() == 1 else self.env.local_rank)
