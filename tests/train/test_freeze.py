"""``smoe.train.freeze`` through the command: a run that starts from given weights and keeps some of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from smoe_ds.checkpoints.format import read_weights, resolve_checkpoint
from smoe_ds.cli.main import main
from tests.helpers.random_run import write_checkpoint
from tests.helpers.ranks import run_ranks
from tests.helpers.small_run import small_run, train_and_listen, train_here, write_run


@pytest.mark.multirank
@pytest.mark.parametrize("world_size", [1, 2])
def test_frozen_weights_are_those_that_a_run_started_with(
    tmp_path: Path, corpus_folder: Path, run_dir: Path, world_size: int
) -> None:
    freeze = ["embedding", "encoder.*", "*norm*"]
    run = small_run(tmp_path / "run", corpus_folder, max_steps=2, init_from=str(run_dir), freeze=freeze)
    run["smoe"]["moe"]["ep_size"] = world_size
    file = write_run(tmp_path / "run.json", run)
    told = run_ranks(train_and_listen, world_size, str(file), [], init=False, timeout=240)
    assert [code for code, _ in told] == [0] * world_size
    before, after = (read_weights(resolve_checkpoint(folder)) for folder in (run_dir, tmp_path / "run"))
    assert before.keys() == after.keys()
    kept = {name for name in before if torch.equal(before[name], after[name])}
    assert kept == {name for name in before if name.startswith(("embedding", "encoder")) or "norm" in name}
    if world_size == 1:
        trained = sum(weight.numel() for name, weight in before.items() if name not in kept)
        assert f"parameters on rank 0, {trained:,} of them trained (smoe.train.freeze), 4 directions" in told[0][1]


def test_a_misspelt_pattern_ends_the_start(
    tmp_path: Path, corpus_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_run(tmp_path / "run.json", small_run(tmp_path / "run", corpus_folder, freeze=["embeding"]))
    message = "smoe.train.freeze: embeding names no parameter of this model; did you mean embedding?"
    code, printed = train_here(file)
    assert (code, message in printed) == (2, True)
    for command in ("validate", "plan"):
        assert main([command, str(file)]) == 2
        assert message in capsys.readouterr().err
    assert not [entry for entry in (tmp_path / "run").iterdir() if entry.name in ("config.json", "checkpoints")]


def test_matrices_that_would_stay_0_are_refused_at_the_start_only(
    tmp_path: Path, corpus_folder: Path, run_dir: Path
) -> None:
    """Its own and those of given weights; a run that has trained them may go on without."""
    run = small_run(tmp_path / "run", corpus_folder, max_steps=1)
    run["smoe"]["moe"]["expert_init"] = "zero"
    file = write_run(tmp_path / "run.json", run)
    frozen = ['smoe.train.freeze=["encoder.*.experts"]', "smoe.train.max_steps=2"]
    shutil.copytree(run_dir, tmp_path / "given")
    weights, zero = read_weights(resolve_checkpoint(run_dir)), "encoder.layers.1.ffn.experts.2.w2"
    weights[zero] = torch.zeros_like(weights[zero])
    given = write_checkpoint(tmp_path / "given" / "checkpoints", 9, weights)
    for more in ([], [f"smoe.train.init_from={given}"]):
        code, printed = train_here(file, [*frozen, *more])
        assert code == 2
        assert "smoe.train.freeze: freezes encoder.layers.1.ffn.experts.*.w2, which is 0 at the start" in printed
        assert not (tmp_path / "run" / "config.json").exists()
    assert train_here(file)[0] == 0
    assert train_here(file, frozen)[0] == 0
