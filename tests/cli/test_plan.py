"""``smoe-ds plan`` as a user runs it."""

from __future__ import annotations

import json
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from smoe_ds.cli.main import main
from tests.helpers.environment import ROOT
from tests.helpers.small_run import scalars

CONFIGS = ROOT / "ds_configs"


@dataclass(frozen=True)
class Logged:
    """A run with a log, the folder of what was made of it, and mean requested capacity by step."""

    run: Path
    folder: Path
    means: dict[int, float]


@pytest.mark.parametrize("name", ["m4", "m15", "opus100", "quickstart"])
def test_shipped_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(CONFIGS / f"{name}.json")]) == 0
    out = capsys.readouterr().out
    for part in ("parameters", "requested capacity", "FLOPs (forward)", "memory per device", "optimizer"):
        assert part in out


def test_json_and_the_warning_with_the_better_ep_size(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", str(CONFIGS / "m15.json"), "--json", "--world-size", "16", "--set", "smoe.moe.ep_size=8"]
    assert main(words) == 0
    output = capsys.readouterr()
    plan = json.loads(output.out)
    assert plan["flops_per_token"] == pytest.approx(656e6, abs=1e6)
    assert plan["exchange_bytes_per_step"] > 0
    assert "ep_size 4 spreads [4, 12] evenly" in output.err


def test_paper(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--paper", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    keys = {"table", "system", "parameters", "flops_per_token", "published_parameters", "published_flops_per_token"}
    assert all(keys <= set(row) for row in rows)
    assert main(["plan", "--paper"]) == 0
    text = capsys.readouterr().out
    assert "M15 SMoE-4-12" in text and "Stacking 4 2-expert MoE" in text
    (cmr,) = [line for line in text.splitlines() if line.startswith("M15 CMR")]
    assert "4.2 ~" in cmr
    assert "~ within the published rounding" in text and "M15 CMR: 1,014.2M is published as 1.01B" in text


@pytest.mark.parametrize("name", ["m4", "m15", "opus100"])
def test_vocabulary_of_a_recipe_whose_corpus_is_not_prepared(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    spec = yaml.safe_load((ROOT / "data_prep" / "spec" / "shipped" / f"{name}.yaml").read_text())
    run = [str(CONFIGS / f"{name}.json"), "--set", "smoe.data.path=nowhere"]
    assert main(["plan", *run]) == 0
    assert (
        f"vocabulary {spec['sentencepiece']['vocab_size']:,} (smoe.data.vocab_size; nowhere" in capsys.readouterr().out
    )
    assert main(["plan", *run, "--set", "smoe.data.vocab_size=null"]) == 0
    assert "vocabulary 32,000 (assumed: nowhere is not prepared" in capsys.readouterr().out


@pytest.fixture(scope="module")
def logged(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Logged:
    """A trained run, what its log says at its checkpoints' steps, an average and an export of it."""
    folder = tmp_path_factory.mktemp("logged")
    assert main(["average", str(trained_run), "--last", "2", "--output", str(folder / "average")]) == 0
    assert main(["export", str(folder / "average"), "--output", str(folder / "export")]) == 0
    tags = [values for tag, values in scalars(trained_run).items() if tag.startswith("moe_requested_capacity/")]
    means = {step: statistics.fmean(values[step] for values in tags) for step in (2, 4)}
    return Logged(trained_run, folder, means)


def capacity_of(path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> float:
    capsys.readouterr()
    assert main(["plan", str(run / "config.json"), "--json", "--run", str(path)]) == 0
    return float(json.loads(capsys.readouterr().out)["measured_requested_capacity"])


@pytest.mark.multirank
def test_whatever_names_weights_names_their_log(logged: Logged, capsys: pytest.CaptureFixture[str]) -> None:
    assert logged.means[2] != logged.means[4]
    steps = {"step_00000002": 2, "step_00000004": 4}
    for name, step in steps.items():
        found = capacity_of(logged.run / "checkpoints" / name, logged.run, capsys)
        assert found == pytest.approx(logged.means[step])
    for path in (logged.run, logged.folder / "average", logged.folder / "export", logged.folder / "export/config.json"):
        assert capacity_of(path, logged.run, capsys) == pytest.approx(logged.means[4]), path


@pytest.mark.multirank
def test_weights_whose_run_is_gone(logged: Logged, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(logged.folder / "export", tmp_path / "export")
    index = json.loads((copy / "export.json").read_text())
    index["source"]["folder"] = "/nowhere/checkpoints/step_00000004"
    (copy / "export.json").write_text(json.dumps(index))
    assert main(["plan", str(CONFIGS / "m4.json"), "--run", str(copy)]) == 2
    assert "nor has /nowhere, where its weights come from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which run?"),
        ([str(CONFIGS / "m4.json"), "--vocab-size", "0"], "--vocab-size 0"),
        ([str(CONFIGS / "m4.json"), "--run", "nowhere"], "no log of requested capacities"),
    ],
)
def test_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *words]) == 2
    assert message in capsys.readouterr().err
