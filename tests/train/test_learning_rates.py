"""``smoe.train.expert_lr_factor`` and ``gate_lr_factor`` through the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_ds.checkpoints.format import read_weights, resolve_checkpoint
from smoe_ds.cli.main import main
from smoe_ds.config.load import load_run
from smoe_ds.engine.adapter import build_model
from tests.helpers.small_run import scalars, small_run, train_here, write_run

RATE, EXPERTS, GATES = 2e-3, 0.25, 3.0


def test_the_first_step_moves_each_kind_by_its_own_rate_and_the_log_has_that_of_the_schedule(
    tmp_path: Path, corpus_folder: Path
) -> None:
    """Adam's first update is the learning rate in size, wherever there is a gradient."""
    settings = {"warmup_steps": 0, "max_steps": 1, "expert_lr_factor": EXPERTS, "gate_lr_factor": GATES}
    content = small_run(tmp_path / "run", corpus_folder, **settings)
    content["optimizer"]["params"]["eps"] = 1e-20
    file = write_run(tmp_path / "run.json", content)
    code, printed = train_here(file)
    assert code == 0, printed
    after = read_weights(resolve_checkpoint(tmp_path / "run"))
    run = load_run(file)
    model = build_model(run.smoe.model, run.smoe.moe, after["embedding.weight"].shape[0], seed=1, rank=0)
    moved = {"experts": 0.0, "gates": 0.0, "others": 0.0}
    for name, before in model.named_parameters():
        kind = next((kind for kind in ("experts", "gates") if f".{kind}." in name), "others")
        moved[kind] = max(moved[kind], float((after[name] - before.detach()).abs().max()))
    assert moved == pytest.approx({"experts": RATE * EXPERTS, "gates": RATE * GATES, "others": RATE}, rel=1e-3)
    assert scalars(tmp_path / "run")["train/learning_rate"] == {1: pytest.approx(RATE)}


def test_a_factor_for_what_is_frozen_is_refused(
    tmp_path: Path, corpus_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = small_run(tmp_path / "run", corpus_folder, freeze=["*.gates"], gate_lr_factor=0.5)
    file = write_run(tmp_path / "run.json", content)
    message = "smoe.train.gate_lr_factor: is 0.5, but smoe.train.freeze freezes all gates; leave one of them out"
    assert main(["validate", str(file)]) == 2
    assert message in capsys.readouterr().err
    assert main(["validate", str(file), "--set", 'smoe.train.freeze=["*.gates.0"]']) == 0
    assert main(["plan", str(file), "--set", "smoe.train.freeze=[]", "--systems"]) == 0  # the dense one without them
