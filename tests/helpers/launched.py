"""A run that launchers start, and the same run by one plain process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.helpers.environment import ROOT, own_environment
from tests.helpers.small_run import scalars, small_run, write_run

STEPS = 5


def launched_run(folder: Path, corpus: Path, **train: Any) -> Path:
    """A run file in a new folder, for up to four ranks; its losses do not depend on the ranks."""
    folder.mkdir()
    settings = {"max_steps": STEPS, "validate_every": 100, "checkpoint_every": 100}
    run = small_run(folder / "run", corpus, **settings | train)
    run["train_batch_size"] = 4
    run["smoe"]["model"] |= {"dropout": 0.0, "attention_dropout": 0.0}
    run["smoe"]["moe"]["load_balancing_batch"] = "local"
    return write_run(folder / "run.json", run)


def losses_of(run_file: Path) -> dict[int, float]:
    """Loss per token by step."""
    return scalars(run_file.with_name("run"))["train/nll"]


def losses_alone(folder: Path, corpus: Path) -> dict[int, float]:
    """The same of the run by ``python -m smoe_ds train``, all experts in it."""
    file = launched_run(folder, corpus)
    command = [sys.executable, "-m", "smoe_ds", "train", str(file)]
    subprocess.run(command, cwd=ROOT, env=own_environment(), check=True, capture_output=True, timeout=120)
    losses = losses_of(file)
    assert len(losses) == STEPS
    return losses
