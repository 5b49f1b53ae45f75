"""Runs on a GPU: losses as on the processor, interrupted runs to the bit, ZeRO-Offload, the doctor, decoding."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.environment import ROOT, own_environment
from tests.helpers.small_run import scalars, small_run, write_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

PRECISIONS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"bf16": {"enabled": True}},
    "fp16": {"fp16": {"enabled": True, "initial_scale_power": 10}},
}


def run_of(folder: Path, corpus: Path, precision: str, *, noise: bool = True, **train: Any) -> Path:
    """A run file; without noise the processor and the GPU compute the same."""
    run = small_run(folder / "run", corpus, **train) | PRECISIONS[precision]
    run["optimizer"]["params"]["torch_adam"] = True  # nothing is compiled
    run["smoe"]["model"] |= {"d_model": 64, "d_ffn": 128}
    if not noise:
        run["smoe"]["model"] |= {"dropout": 0.0, "attention_dropout": 0.0}
        run["smoe"]["moe"]["second_expert"] = "argmax"
    folder.mkdir()
    return write_run(folder / "run.json", run)


def smoe(*arguments: object, device: str = "cuda", code: int = 0) -> str:
    """``smoe-ds`` with these arguments in a process of its own, which has to end so; what it printed."""
    command = [sys.executable, "-m", "smoe_ds", *map(str, arguments)]
    env = own_environment(DS_ACCELERATOR=device)
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 3e-2), ("fp16", 2e-2)])
def test_losses_are_those_of_the_processor(
    tmp_path: Path, corpus_folder: Path, precision: str, tolerance: float
) -> None:
    here = run_of(tmp_path / "cpu", corpus_folder, "fp32", noise=False)
    there = run_of(tmp_path / "gpu", corpus_folder, precision, noise=False)
    smoe("train", here, device="cpu")
    smoe("train", there)
    expected, losses = (scalars(file.with_name("run"))["train/nll"] for file in (here, there))
    assert len(losses) == 6 and losses == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("stage", [1, 2])
def test_resumed_run_equals_the_undisturbed_one(
    tmp_path: Path, corpus_folder: Path, precision: str, stage: int
) -> None:
    zero = f"zero_optimization.stage={stage}"
    whole = run_of(tmp_path / "whole", corpus_folder, precision, deterministic=True)
    parts = run_of(tmp_path / "parts", corpus_folder, precision, deterministic=True)
    smoe("train", whole, "--set", zero)
    smoe("train", parts, "--set", zero, "--set", "smoe.train.max_steps=3")
    smoe("train", parts, "--set", zero)
    folders = [file.with_name("run") / "checkpoints" / "step_00000006" for file in (whole, parts)]
    said = smoe("checkpoint", "diff", *folders, code=1)
    expected = ("A ", "B ", "config.smoe.train.output_dir", "state.extra.progress.seconds")
    assert not [line for line in said.splitlines() if not line.startswith(expected)], said


def test_offload_trains_alike(tmp_path: Path, corpus_folder: Path) -> None:
    losses = []
    for device in ("none", "cpu"):
        file = run_of(tmp_path / device, corpus_folder, "bf16", noise=False)
        run = json.loads(file.read_text())
        run["zero_optimization"] = {"stage": 2, "offload_optimizer": {"device": device}}
        write_run(file, run)
        smoe("train", file)
        losses.append(scalars(file.with_name("run"))["train/nll"])
    assert losses[1] == pytest.approx(losses[0], rel=5e-3)


def test_doctor_and_decoding(tmp_path: Path, corpus_folder: Path) -> None:
    file = run_of(tmp_path / "run", corpus_folder, "bf16")
    assert torch.cuda.get_device_name() in smoe("doctor", file)
    smoe("train", file)
    on_gpu, on_cpu = (smoe("evaluate", file.with_name("run"), device=device) for device in ("cuda", "cpu"))
    assert "eng-nso" in on_gpu and "eng-nso" in on_cpu
