"""A step that one rank cannot take is taken by none: NaN, spikes, and runs that get nowhere."""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.ranks import run_ranks
from tests.helpers.small_run import scalars, small_run, train_on_rank, write_run
from tests.train.test_run import checkpoint_hashes

pytestmark = pytest.mark.multirank

KINDS = ("nan loss", "inf loss", "nan inside", "gradient spike", "loss spike")
QUICK = [
    ((0, "fp32"), "nan inside"),
    ((1, "bf16"), "nan loss"),
    ((2, "fp16"), "inf loss"),
    ((0, "bf16"), "gradient spike"),
    ((1, "fp32"), "loss spike"),
    ((2, "fp32"), "gradient spike"),
]


def train_with_trouble(rank: int, world_size: int, file: str, overrides: list[str], kind: str, steps: list[int]) -> Any:
    """Trains; rank 1 is in trouble at `steps`. Returns the exit code and a digest of the rank's weights."""
    from smoe_ds.train import trainer

    forward, seen = trainer.forward, []

    class Watched(trainer.Trainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            seen.append(self)

    def troubled(model: Any, *args: Any) -> Any:
        if rank != 1 or seen[0].progress.step not in steps:
            return forward(model, *args)
        hooks = []
        if kind == "nan inside":
            layer = model.module.encoder.layers[0]
            hooks.append(layer.register_forward_hook(lambda module, inputs, output: _spoilt(output)))
        micro_step = forward(model, *args)
        for hook in hooks:
            hook.remove()
        factor = {"nan loss": math.nan, "inf loss": math.inf, "gradient spike": 1000.0}.get(kind, 1.0)
        if kind == "loss spike":
            told = replace(micro_step.translation, smoothed=micro_step.translation.smoothed * 1000)
            return replace(micro_step, translation=told)
        return replace(micro_step, loss=micro_step.loss * factor)

    trainer.forward, trainer.Trainer = troubled, Watched  # type: ignore[misc]
    code = train_on_rank(rank, world_size, file, overrides)
    weights = hashlib.sha256()
    for parameter in seen[0].engine.module.parameters():
        weights.update(parameter.detach().float().numpy().tobytes())
    return code, weights.hexdigest()


def _spoilt(output: Any) -> Any:
    """Not a number in one place of a layer's output."""
    tensor = output[0] if isinstance(output, tuple) else output
    spoilt = tensor.clone()
    spoilt.view(-1)[3] = torch.nan
    return (spoilt, *output[1:]) if isinstance(output, tuple) else spoilt


def progress_of(folder: Path, step: int) -> dict[str, Any]:
    state = json.loads((folder / "checkpoints" / f"step_{step:08d}" / "state.json").read_text())
    progress: dict[str, Any] = state["extra"]["progress"]
    return progress


def check_skip(tmp_path: Path, corpus: Path, stage: int, precision: str, kind: str, *, offload: bool = False) -> None:
    """Step 4 of 5 is skipped by both ranks, counted, and changes nothing but the position."""
    run = small_run(tmp_path / "run", corpus, max_steps=5, checkpoint_every=1, keep_last=9, validate_every=9)
    run["zero_optimization"] |= {"stage": stage, "offload_optimizer": {"device": "cpu" if offload else "none"}}
    run["smoe"]["train"] |= {"skip_spikes_above": 3.0, "spike_window": 4}
    if precision != "fp32":
        run[precision] = {"enabled": True, **({"initial_scale_power": 4} if precision == "fp16" else {})}
    file = write_run(tmp_path / "run.json", run)
    results = run_ranks(train_with_trouble, 2, str(file), [], kind, [4], init=False)
    assert [code for code, _ in results] == [0, 0]
    assert results[0][1] == results[1][1]  # no experts are spread: both ranks hold all weights
    folder = tmp_path / "run"
    hashes = {step: checkpoint_hashes(folder, step) for step in range(1, 6)}
    assert hashes[4] == hashes[3]  # weights, moments and step counts
    assert hashes[3] != hashes[2] and hashes[5] != hashes[4]
    spike = kind.endswith("spike")
    tag, other = ("skipped_spikes", "skipped_steps") if spike else ("skipped_steps", "skipped_spikes")
    assert [progress_of(folder, step)[tag] for step in (3, 4, 5)] == [0, 1, 1]
    assert [progress_of(folder, step)["skipped_in_a_row"] for step in (3, 4, 5)] == [0, 1, 0]
    assert progress_of(folder, 5)[other] == 0
    logged = scalars(folder)
    assert [logged[f"train/{tag}"][step] for step in (3, 4, 5)] == [0, 1, 1]
    assert math.isfinite(logged["train/nll"][5])


@pytest.mark.parametrize(("engine", "kind"), QUICK, ids=str)
def test_all_ranks_skip_the_same_step(tmp_path: Path, corpus_folder: Path, engine: tuple[int, str], kind: str) -> None:
    check_skip(tmp_path, corpus_folder, *engine, kind)


@pytest.mark.parametrize(
    ("stage", "precision", "kind"),
    [(2, "fp16", "nan inside"), (1, "fp32", "inf loss"), (2, "fp16", "gradient spike"), (2, "fp32", "loss spike")],
)
def test_all_ranks_skip_the_same_step_with_offload(
    tmp_path: Path, corpus_folder: Path, stage: int, precision: str, kind: str
) -> None:
    check_skip(tmp_path, corpus_folder, stage, precision, kind, offload=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_all_ranks_skip_the_same_step_at_any_precision(
    tmp_path: Path, corpus_folder: Path, stage: int, kind: str
) -> None:
    for precision in ("fp32", "bf16", "fp16") if stage else ("fp32", "bf16"):  # fp16 without ZeRO is refused
        if ((stage, precision), kind) not in QUICK:
            (tmp_path / precision).mkdir()
            check_skip(tmp_path / precision, corpus_folder, stage, precision, kind)


def test_resumed_after_a_skipped_step_equals_the_uninterrupted_run(tmp_path: Path, corpus_folder: Path) -> None:
    hashes = []
    for name, parts in (("whole", ["5"]), ("parts", ["3", "5"])):
        run = small_run(tmp_path / name, corpus_folder, validate_every=9, checkpoint_every=9)
        run["smoe"]["train"] |= {"skip_spikes_above": 3.0, "spike_window": 4}
        run["smoe"]["moe"]["bias_balancing"] = 0.05
        file = str(write_run(tmp_path / "run.json", run))
        for last in parts:
            settings = [f"smoe.train.max_steps={last}"]
            results = run_ranks(train_with_trouble, 2, file, settings, "nan loss", [3], init=False)
            assert [code for code, _ in results] == [0, 0]
        assert progress_of(tmp_path / name, 5)["skipped_steps"] == 1
        hashes.append(checkpoint_hashes(tmp_path / name, 5))
    assert hashes[0] == hashes[1]


def crash_message(folder: Path) -> str:
    """Why the run ended; the watcher writes it when the rank has gone."""
    end = time.monotonic() + 20
    while not (folder / "crash.json").exists() and time.monotonic() < end:
        time.sleep(0.05)
    return str(json.loads((folder / "crash.json").read_text())["message"])


def test_a_run_that_gets_nowhere_ends(tmp_path: Path, corpus_folder: Path) -> None:
    run = small_run(tmp_path / "run", corpus_folder, checkpoint_every=1, max_skipped_in_a_row=2)
    file = str(write_run(tmp_path / "run.json", run))
    results = run_ranks(train_with_trouble, 2, file, [], "nan inside", [2, 4, 5, 6], init=False)
    assert [code for code, _ in results] == [2, 2]
    message = "step 5: 2 steps in a row were skipped (smoe.train.max_skipped_in_a_row), the last one because its"
    assert crash_message(tmp_path / "run").startswith(f"NonFiniteError: {message}")
    assert progress_of(tmp_path / "run", 4)["skipped_steps"] == 2


@pytest.mark.parametrize("stage", [1, 2])
def test_a_run_whose_loss_scale_is_at_its_floor_ends_like_any_other(
    tmp_path: Path, corpus_folder: Path, stage: int
) -> None:
    """The floor is reached at step 2, long before the steps in a row are too many."""
    run = small_run(tmp_path / "run", corpus_folder, max_steps=9, max_skipped_in_a_row=5)
    run["zero_optimization"] |= {"stage": stage}
    run["fp16"] = {"enabled": True, "initial_scale_power": 1, "hysteresis": 1}
    file = str(write_run(tmp_path / "run.json", run))
    results = run_ranks(train_with_trouble, 2, file, [], "inf loss", list(range(1, 10)), init=False)
    assert [code for code, _ in results] == [2, 2]
    message = crash_message(tmp_path / "run")
    assert message.startswith("NonFiniteError: step 5: 5 steps in a row were skipped"), message
    assert "lower optimizer.params.lr" in message
