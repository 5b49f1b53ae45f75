"""``smoe-ds average``: a folder that decodes, evaluates and starts runs; mistakes are named and leave nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from smoe_ds.checkpoints.format import read_state, read_weights
from smoe_ds.cli.main import main
from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.load import load_translator
from tests.helpers.random_run import change_config, random_run
from tests.helpers.small_run import small_run, train_here, write_run


def average(*arguments: object) -> int:
    return main(["average", *map(str, arguments)])


def test_the_mean_decodes_like_a_run(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mean"
    assert average(run_dir, "--last", 2, "--output", out) == 0
    printed, err = capsys.readouterr()
    assert printed.splitlines() == [str(run_dir / "checkpoints" / f"step_000000{step}") for step in (60, 30)]
    assert err == f"smoe-ds average: wrote the mean of 2 checkpoints to {out}, as step 60\n"
    one, two, mean = (
        read_weights(folder / "checkpoints" / name)
        for folder, name in ((run_dir, "step_00000030"), (run_dir, "step_00000060"), (out, "step_00000060"))
    )
    assert mean.keys() == one.keys()
    for name, weight in mean.items():
        torch.testing.assert_close(weight, ((one[name].double() + two[name]) / 2).float(), rtol=0, atol=0)
    assert len(load_translator(out, device="cpu").translate(["The house sees snow."], "nso")[0].tokens) > 0
    origin = read_state(out / "checkpoints" / "step_00000060")["origin"]
    assert [source["step"] for source in origin["sources"]] == [60, 30]
    assert main(["evaluate", str(out), "--device", "cpu", "--limit", "2", "--directions", "eng-nso"]) == 0
    assert json.loads((out / "scores.json").read_text("utf-8"))["checkpoint"]["step"] == 60


@pytest.mark.multirank
def test_the_best_of_a_trained_run_and_a_run_that_starts_there(
    trained_run: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Validation losses come from the run; the mean starts another run, and is no checkpoint to go on from."""
    assert average(trained_run, "--best", 2, "--output", tmp_path / "mean") == 0
    lines = capsys.readouterr().out.splitlines()
    losses = [float(line.split("validation loss ")[1].split()[0]) for line in lines]
    assert len(losses) == 2 and losses[0] <= losses[1]

    run = small_run(tmp_path / "next", corpus.path, max_steps=1, init_from=str(tmp_path / "mean"))
    code, printed = train_here(write_run(tmp_path / "next.json", run))
    assert (code, f"with the weights of {tmp_path / 'mean'}" in printed) == (0, True)
    run["smoe"]["train"] |= {"output_dir": str(tmp_path / "mean"), "init_from": None}
    code, printed = train_here(write_run(tmp_path / "mean.json", run))
    assert (code, "has weights but no optimizer state" in printed) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--last", "3"], "2 checkpoints are kept, 3 are asked for (steps 30, 60)"),
        (["--best", "1"], "0 of the 2 have one (steps none)"),
        (["--steps", "30,45"], "no checkpoint of step 45; there are the steps 30, 60"),
        (["--steps", "30"], "nothing to average: expected two or more"),
        (["--steps", "x"], "expected steps such as 1000,2000"),
        (["--last", "2", "--best", "2"], "not allowed with"),
        ([], "nothing to average: choose checkpoints of the run with --last N"),
    ],
)
def test_mistakes_are_named(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert average(run_dir, *arguments, "--output", tmp_path / "out") == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_only_checkpoints_of_one_model_are_mixed(
    run_dir: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = random_run(tmp_path, corpus, steps=(7,))
    here, there = run_dir / "checkpoints" / "step_00000030", other / "checkpoints" / "step_00000007"
    assert average(here, there, "--output", tmp_path / "mixed") == 0
    assert (tmp_path / "mixed" / "checkpoints" / "step_00000030").is_dir()
    assert average(here, there, "--output", tmp_path / "mixed") == 2
    assert "is there already" in capsys.readouterr().err
    assert average(here, there, "--last", 2, "--output", tmp_path / "no") == 2
    assert "one run; name its folder alone" in capsys.readouterr().err
    change_config(other, "moe", "norm", "released")
    assert average(here, there, "--output", tmp_path / "no") == 2
    assert "smoe.moe.norm is 'paper' and 'released'" in capsys.readouterr().err
    change_config(other, "moe", "norm", "paper")
    change_config(other, "data", "target_language_token", False)
    assert average(here, there, "--output", tmp_path / "no") == 2
    assert "smoe.data.target_language_token is True and False" in capsys.readouterr().err
    change_config(other, "data", "target_language_token", True)
    (other / "tokenizer.model").write_bytes((other / "tokenizer.model").read_bytes() + b"\x1a\x00")
    assert average(here, there, "--output", tmp_path / "no") == 2
    assert "vocabularies (tokenizer.model) differ" in capsys.readouterr().err
    changed = tmp_path / "changed"
    shutil.copytree(run_dir, changed)
    change_config(changed, "model", "d_ffn", 64)
    assert average(changed, "--last", 2, "--output", tmp_path / "no") == 2
    assert "does not fit the model of" in capsys.readouterr().err
    assert not (tmp_path / "no").exists() and not list(tmp_path.glob("*.tmp-*"))
