"""A run small enough to be trained in a test, on a small corpus."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.helpers.ranks import run_ranks


def small_run(folder: Path, corpus: Path, **train: Any) -> dict[str, Any]:
    """A run on the small corpus, as a dict; keyword arguments are keys of ``smoe.train``."""
    return {
        "train_batch_size": 2,
        "optimizer": {
            "type": "Adam",
            "params": {"lr": 2e-3, "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.0},
        },
        "gradient_clipping": 0.0,
        "zero_optimization": {"stage": 1},
        "smoe": {
            "model": {
                "d_model": 32,
                "d_ffn": 48,
                "num_heads": 2,
                "encoder_layers": 2,
                "decoder_layers": 2,
                "dropout": 0.1,
                "attention_dropout": 0.1,
                "max_positions": 64,
            },
            "moe": {"strata": [2, 2], "ep_size": 1},
            "data": {"path": str(corpus), "max_tokens": 256, "window": 128},
            "train": {
                "output_dir": str(folder),
                "max_steps": 6,
                "warmup_steps": 4,
                "log_every": 1,
                "validate_every": 3,
                "checkpoint_every": 3,
                **train,
            },
        },
    }


def write_run(path: Path, run: dict[str, Any]) -> Path:
    """Writes a run file; returns its path."""
    path.write_text(json.dumps(run), encoding="utf-8")
    return path


def train_on_rank(rank: int, world_size: int, run_file: str, overrides: list[str]) -> int:
    """``smoe-ds train`` as one rank; for run_ranks(..., init=False)."""
    from smoe_ds.cli.main import main

    arguments = ["train", run_file, "--debug"]
    for override in overrides:
        arguments += ["--set", override]
    return main(arguments)


def train_and_listen(rank: int, world_size: int, run_file: str, overrides: list[str]) -> tuple[int, str]:
    """The same; returns what the rank printed beside the exit code."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = train_on_rank(rank, world_size, run_file, overrides)
    return code, printed.getvalue()


def train_here(run_file: Path, overrides: Sequence[str] = (), timeout: float = 120) -> tuple[int, str]:
    """``smoe-ds train`` in a process of its own, so that no process group stays behind: exit code, what it said."""
    ((code, printed),) = run_ranks(train_and_listen, 1, str(run_file), list(overrides), init=False, timeout=timeout)
    return code, printed


def scalars(run_folder: Path) -> dict[str, dict[int, float]]:
    """TensorBoard scalars of a run, by tag and step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
