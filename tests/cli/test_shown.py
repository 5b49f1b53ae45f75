"""Commands show results that others make: what they print is what smoe_ds.report makes of a result, and no more."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from smoe_ds.analysis.pruning_cost import PruningCost
from smoe_ds.checkpoints.compare import compare_checkpoints
from smoe_ds.checkpoints.format import step_folders
from smoe_ds.checkpoints.inspection import summarize
from smoe_ds.cli.commands import COMMANDS, command_module
from smoe_ds.cli.main import main
from smoe_ds.config import load_run
from smoe_ds.config.data import DataConfig
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.corpus_stats import StatsSettings, corpus_stats
from smoe_ds.data.located_pair import locate_pair
from smoe_ds.evaluate.scores import Evaluation
from smoe_ds.planning.paper_tables import paper_rows
from smoe_ds.planning.plan import make_plan
from smoe_ds.report.checkpoints import comparison_text, list_table
from smoe_ds.report.corpus import pair_page, stats_page
from smoe_ds.report.plan import paper_page, plan_page
from smoe_ds.report.pruning import cost_table
from smoe_ds.report.scaling import prediction_text, predictions_page
from smoe_ds.report.scores import scores_page
from smoe_ds.scaling.collectives import Topology
from smoe_ds.scaling.constants import choose_constants
from smoe_ds.scaling.predict import predict, predict_all
from tests.helpers.environment import ROOT

M15 = ROOT / "ds_configs" / "m15.json"


def shown(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    capsys.readouterr()
    assert main(list(map(str, words))) == code
    return capsys.readouterr().out.removesuffix("\n")


def test_scores(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "scores.json"
    out = shown(capsys, "evaluate", run_dir, "--device", "cpu", "--limit", 3, "--output", file, "--untrained")
    content = json.loads(file.read_text(encoding="utf-8"))
    evaluation = Evaluation.from_json(content)
    assert out == scores_page(evaluation).text()
    assert evaluation.as_json() == content
    assert len(evaluation.directions) == 4 and all(one.untrained for one in evaluation.directions)


def test_cost_of_pruning(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pruning = ("--keep-share", 0.3, "--limit", 2, "--directions", "eng-nso,nso-eng")
    out = shown(capsys, "export", run_dir, "--device", "cpu", "--output", tmp_path / "out", *pruning)
    content = json.loads((tmp_path / "out" / "pruning_scores.json").read_text(encoding="utf-8"))
    cost = PruningCost.from_json(content)
    first, second, table = out.split("\n", 2)
    assert table == cost_table(cost).text()
    assert all("experts kept, removed" in line for line in (first, second))
    assert cost.as_json() == content and (cost.split, cost.limit) == ("test", 2)


def test_corpus(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    settings = StatsSettings(DataConfig(path=str(corpus.path), temperature=2.0), 1, 512, 3)
    stats = corpus_stats(corpus, settings)
    words = ("data", "stats", corpus.path, "--temperature", 2, "--micro-batches", 3)
    assert shown(capsys, *words) == stats_page(stats).text()
    assert json.loads(shown(capsys, *words, "--json")) == json.loads(json.dumps(stats.as_json())) == stats.as_json()
    pair = locate_pair(corpus, "test", "nso-eng", 2)
    assert shown(capsys, "data", "show", corpus.path, "nso-eng", "--at", 2, "--split", "test") == pair_page(pair).text()


def test_checkpoints(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = step_folders(run_dir / "checkpoints")
    for option, hashes in (([], False), (["--verify"], True)):
        table = list_table([summarize(folder, hashes=hashes) for folder in folders])
        assert shown(capsys, "checkpoint", "ls", run_dir, *option) == table.text(underlined=False)
    comparison = compare_checkpoints(*folders)
    assert shown(capsys, "checkpoint", "diff", *folders, code=1) == comparison_text(comparison)
    assert shown(capsys, "checkpoint", "diff", *folders, "--all", code=1) == comparison_text(comparison, every=True)


def test_plan(capsys: pytest.CaptureFixture[str]) -> None:
    run = load_run(M15, ["smoe.moe.ep_size=4"])
    words = ("plan", M15, "--set", "smoe.moe.ep_size=4", "--vocab-size", 32_000)
    plan = make_plan(run, vocab_size=32_000)
    assert shown(capsys, *words) == plan_page(str(M15), run, plan, "given").text()
    assert json.loads(shown(capsys, *words, "--json")) == plan.as_json()
    assert shown(capsys, "plan", "--paper") == paper_page(paper_rows()).text()
    constants = choose_constants("fp16", file=None, device=None, interconnect="ib-hdr", ports=1)
    scale = (*words, "--interconnect", "ib-hdr", "--nodes")
    one = predict(run, 32_000, constants, Topology(2, 8))
    assert shown(capsys, *scale, 2) == prediction_text(run, constants, one)
    several = predict_all(run, 32_000, constants, [Topology(nodes, 8) for nodes in (1, 2, 8)])
    assert shown(capsys, *scale, "1,2,8") == predictions_page(run, constants, several).text()


def test_modules_of_commands_load_nothing_heavy() -> None:
    names = sorted(
        f"smoe_ds.cli.{path.stem}" for path in (ROOT / "smoe_ds/cli").glob("*.py") if path.stem != "__init__"
    )
    heavy = ("torch", "deepspeed", "numpy", "sacrebleu", "sentencepiece")
    program = f"import sys, {', '.join(names)}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(names) > 15 and done.stdout == "[]\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_does_and_what_it_is_without_it(name: str) -> None:
    """A default that is a value stands in the help; nothing is left without a text."""
    parser = argparse.ArgumentParser()
    command_module(name).add_arguments(parser)
    for action in _actions(parser):
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._SubParsersAction):
            continue
        assert action.help, action.dest
        if action.option_strings and action.default not in (None, False, argparse.SUPPRESS, []):
            default = f"{action.default:g}" if isinstance(action.default, float) else str(action.default)
            assert f"(default: {default}" in action.help, action.dest


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    found: list[argparse.Action] = []
    for action in parser._actions:
        found.append(action)
        if isinstance(action, argparse._SubParsersAction):
            found += [inner for sub in action.choices.values() for inner in _actions(sub)]
    return found
