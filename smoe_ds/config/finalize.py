"""The dict given to ``deepspeed.initialize``, once the number of ranks is known."""

from __future__ import annotations

import copy
import os
from typing import Any

from smoe_ds.config.checks import check_world
from smoe_ds.config.run import RunConfig


def finalize_deepspeed(run: RunConfig, world_size: int, device: str | None = None) -> dict[str, Any]:
    """DeepSpeed's configuration with the batch arithmetic done and no default left to chance.

    Args:
        run: the run.
        world_size: number of ranks.
        device: ``cuda`` or ``cpu``; None asks DS_ACCELERATOR, then PyTorch. On a CPU, Adam is PyTorch's unless the
            run says otherwise: DeepSpeed's would be compiled first, for minutes.

    Raises:
        ConfigError: the run cannot be spread over so many ranks.
    """
    check_world(run, world_size)
    config = copy.deepcopy(run.deepspeed)
    config["train_micro_batch_size_per_gpu"] = 1
    config["gradient_accumulation_steps"] = run.train_batch_size // world_size
    params = config["optimizer"]["params"]
    if params.get("torch_adam") is None:
        params["torch_adam"] = (device or _device()) == "cpu"
    config.setdefault("steps_per_print", None)
    return config


def _device() -> str:
    chosen = os.environ.get("DS_ACCELERATOR")
    if chosen:
        return chosen
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
