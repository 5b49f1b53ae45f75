"""``smoe-ds compare``: the paper's table of several evaluated runs, and runs that cannot stand in one."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from smoe_ds.cli.main import main
from smoe_ds.config.load import load_run
from smoe_ds.data.corpus import Corpus
from smoe_ds.planning.plan import make_plan
from smoe_ds.run.history import HistoryFile
from tests.helpers.random_run import random_run

SYSTEMS: dict[str, dict[str, Any]] = {
    "dense": {"strata": []},
    "vanilla": {"strata": [4]},
    "smoe": {"strata": [2, 2]},
}
DIRECTIONS = ["cat-eng", "eng-cat", "eng-nso", "nso-eng"]
QUICK = ("--limit", "4", "--bootstrap", "0", "--samples", "0", "--device", "cpu")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> dict[str, Path]:
    """Three systems with random weights, evaluated; vanilla has a log, and smoe an analysis."""
    root = tmp_path_factory.mktemp("systems")
    groups = root / "groups.yaml"
    groups.write_text("low: [nso]\nhigh: [cat]\n")
    folders = {}
    for number, (name, moe) in enumerate(SYSTEMS.items()):
        (root / name).mkdir()
        folders[name] = random_run(root / name, corpus, steps=(3 + number,), moe=moe)
        assert main(["evaluate", str(folders[name]), "--groups", str(groups), *QUICK]) == 0
    history = HistoryFile(folders["vanilla"] / "history.jsonl")
    history.append(4, {"moe_requested_capacity/encoder.1": 1.5, "moe_requested_capacity/decoder.1": 1.0})
    history.append(9, {"moe_requested_capacity/encoder.1": 7.0})
    history.close()
    assert main(["analyze", str(folders["smoe"]), "--device", "cpu", "--limit", "3"]) == 0
    return folders


def compare(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    capsys.readouterr()
    assert main(["compare", *map(str, words)]) == code
    out, err = capsys.readouterr()
    return out if code == 0 else err


def scores(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    return content


def rows_of(text: str, heading: str) -> dict[str, list[str]]:
    """The cells of a table, without its marks, by the first cell of a row."""
    lines = text.split(f"{heading}\n\n")[1].split("\n\n")[0].splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines[2:]}


def test_rows_hold_what_the_runs_are_and_scored(
    runs: dict[str, Path], corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    out = compare(capsys, *(f"{name}={path}" for name, path in runs.items()))
    table = rows_of(out, "chrF++, mean of directions")
    means = {name: scores(path)["averages"] for name, path in runs.items()}
    for place, group in enumerate(means["dense"]):
        values = {name: of[group]["chrf"] for name, of in means.items()}
        ranking = sorted(set(values.values()), reverse=True)
        for name, value in values.items():
            sign = {0: ["*"], 1: ["+"]}.get(ranking.index(value), [])
            cells = " ".join(table[name]).replace(" *", "*").replace(" +", "+").split()
            assert cells[place] == "".join([f"{value:.2f}", *sign])
    for name, path in runs.items():
        plan = make_plan(load_run(path / "config.json"), vocab_size=corpus.tokenizer.vocab_size)
        assert table[name][-2:] == [f"{plan.parameters['total'] / 1e3:.1f}k", f"{plan.flops_per_token / 1e3:.1f}k"]
    assert "step differs: dense 3, vanilla 4, smoe 5" in out


def test_requested_capacity_is_the_analysed_one_or_that_of_the_log_up_to_the_step(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    found = {one["name"]: one for one in json.loads(compare(capsys, *runs.values(), "--format", "json"))}
    dense, vanilla, smoe = (found[str(runs[name])] for name in SYSTEMS)
    assert (dense["requested_capacity"], dense["requested_capacity_from"]) == (None, None)
    assert (vanilla["requested_capacity"], vanilla["requested_capacity_from"]) == (1.25, "train")
    with (runs["smoe"] / "analysis/capacity.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["by"] == "all" and row["block"] != "mean"]
    assert len(rows) == 2, "an encoder block and a decoder block"
    assert smoe["requested_capacity"] == pytest.approx(sum(float(row["requested_capacity"]) for row in rows) / 2)
    assert smoe["requested_capacity_from"] == "analyze"
    text = compare(capsys, *runs.values())
    assert "1.250 ~" in text and "~ as logged in training" in text


@pytest.mark.parametrize("rule", [("--keep-experts", 4), ("--merge-experts", 4), ()], ids=str)
def test_a_model_with_fewer_experts_has_fewer_parameters(
    tmp_path: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str], rule: tuple[object, ...]
) -> None:
    run, export = random_run(tmp_path, corpus, moe={"strata": [3, 3]}), tmp_path / "export"
    shrink = (*rule, "--directions", "eng-nso", "--limit", 1) if rule else ()
    words = ["export", run, "--output", export, *shrink, "--device", "cpu"]
    assert main([str(word) for word in words]) == 0
    for model in (run, export):
        assert main(["evaluate", str(model), "--directions", "eng-nso", *QUICK]) == 0
    text = compare(capsys, run, export)
    whole, found = json.loads(compare(capsys, run, export, "--format", "json"))
    weights = load_file(export / "model.safetensors")
    assert found["parameters"] == sum(w.numel() for n, w in weights.items() if "balance_steps" not in n)
    assert (found["parameters"] < whole["parameters"], found["lacks_experts"]) == (bool(rule), bool(rule))
    assert found["flops_per_token"] == whole["flops_per_token"]
    assert ("k !" in text, "! of the model before experts were removed" in text) == (bool(rule), bool(rule))
    page = tmp_path / "r.html"
    assert main(["report", str(export), "--analyze", "0", "--examples", "0", "--output", str(page)]) == 0
    assert (f"{found['flops_per_token'] / 1e6:,.1f} (before experts" in page.read_text(encoding="utf-8")) == bool(rule)


def test_the_best_of_each_direction_is_marked(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"{name}={path}" for name, path in runs.items()]
    out = compare(capsys, *words, "--format", "markdown")
    lines = out.split("**chrF++ by direction**\n\n")[1].split("\n\n")[0].splitlines()
    for direction, line in zip(DIRECTIONS, lines[2:], strict=True):
        values = [scores(path)["directions"][direction]["chrf"] for path in runs.values()]
        ranking = sorted(set(values), reverse=True)
        marked = [{0: f"**{v:.2f}**", 1: f"_{v:.2f}_"}.get(ranking.index(v), f"{v:.2f}") for v in values]
        level = "low" if "nso" in direction else "high"
        assert line == f"| {' | '.join([direction, level, *marked])} |"
    assert "\\textbf{" in compare(capsys, *words, "--format", "latex")


def test_directions_and_groups_can_be_chosen(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = tmp_path / "groups.yaml"
    groups.write_text("romance: [cat]\nbantu: [nso]\n")
    words = (*runs.values(), "--format", "json", "--directions", "eng-nso,eng-cat", "--groups", groups)
    for one in json.loads(compare(capsys, *words)):
        assert list(one["directions"]) == ["eng-nso", "eng-cat"]
        assert list(one["averages"]) == ["eng-xxx", "eng-xxx bantu", "eng-xxx romance", "all"]
        assert one["averages"]["eng-xxx bantu"]["bleu"] == one["directions"]["eng-nso"]["bleu"]


def regrouped(run: Path, file: Path, levels: dict[str, str]) -> Path:
    """Scores of a run with other levels, by the language that is not English."""
    content = scores(run)
    for name, one in content["directions"].items():
        one["level"] = levels.get(name.replace("eng", "").strip("-"))
    file.write_text(json.dumps(content))
    return file


def test_means_stand_below_the_name_of_their_group(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = regrouped(runs["dense"], tmp_path / "bare.json", {})
    own = scores(runs["smoe"])["averages"]
    names = ["eng-xxx", "eng-xxx high", "eng-xxx low", "xxx-eng", "xxx-eng high", "xxx-eng low", "all"]
    assert list(own) == names
    for order in ([f"bare={bare}", f"own={runs['smoe']}"], [f"own={runs['smoe']}", f"bare={bare}"]):
        out = compare(capsys, *order, "--format", "markdown")
        lines = out.split("**chrF++, mean of directions**\n\n")[1].split("\n\n")[0].splitlines()
        rows = [[cell.strip(" *_") for cell in line.strip("| ").split(" | ")] for line in lines]
        table = {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[2:]}
        assert rows[0][1:8] == names
        for name in names:
            assert table["own"][name] == f"{own[name]['chrf']:.2f}"
            whole = scores(runs["dense"])["averages"][name]["chrf"]
            assert table["bare"][name] == ("-" if " " in name else f"{whole:.2f}")
        assert "| eng-nso | low |" in out


def test_groups_of_one_name_with_other_members_are_refused(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = regrouped(runs["dense"], tmp_path / "bare.json", {})
    swapped = regrouped(runs["vanilla"], tmp_path / "swapped.json", {"nso": "high", "cat": "low"})
    err = compare(capsys, bare, runs["smoe"], swapped, code=2)
    assert f"{swapped}: its group eng-xxx high is eng-nso, not eng-cat as of {runs['smoe']}; name one file" in err
    groups = tmp_path / "groups.yaml"
    groups.write_text("low: [nso]\nhigh: [cat]\n")
    compare(capsys, bare, runs["smoe"], swapped, "--groups", groups)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--limit", "3"),
            "other.json: scored on other text than {dense} in cat-eng, eng-cat, eng-nso, nso-eng (3 sen",
        ),
        (("--split", "valid", "--limit", "4"), "other.json: scored on valid, not test as {dense}"),
        (("--limit", "4", "--tokenize", "char"), "other.json: BLEU is by other tokenizers than of {dense} in cat-eng"),
        (("--limit", "4", "--directions", "eng-nso"), "has no scores of cat-eng, eng-cat, nso-eng, which {dense} has"),
    ],
)
def test_runs_on_other_test_sets_are_refused_by_name(
    runs: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    file = tmp_path / "other.json"
    quick = ("--bootstrap", "0", "--samples", "0", "--device", "cpu", "--output", str(file))
    assert main(["evaluate", str(runs["vanilla"]), *arguments, *quick]) == 0
    err = compare(capsys, runs["dense"], file, code=2)
    assert message.format(dense=runs["dense"]) in err and str(file) in err
    if "--directions" in arguments:
        err = compare(capsys, file, runs["dense"], code=2)
        assert "has scores of cat-eng, eng-cat, nso-eng, which" in err and "compare --directions eng-nso" in err
        compare(capsys, file, runs["dense"], "--directions", "eng-nso")


def test_mistakes_are_named(runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dense = runs["dense"]
    assert "/nowhere: no such run" in compare(capsys, dense, "/nowhere", code=2)
    assert f"run smoe-ds evaluate {tmp_path} first" in compare(capsys, tmp_path, code=2)
    assert f"{dense}: is named twice" in compare(capsys, dense, dense, code=2)
    assert "names none" in compare(capsys, dense, "--directions", ",", code=2)
    assert "has no scores of eng-xyz" in compare(capsys, dense, "--directions", "eng-xyz", code=2)
    old = tmp_path / "old.json"
    content = scores(dense)
    for one in content["directions"].values():
        del one["text"]
    old.write_text(json.dumps(content))
    assert f"{old}: its scores do not say which text they are of" in compare(capsys, dense, old, code=2)
    alone = tmp_path / "alone.json"
    alone.write_text(json.dumps(scores(dense) | {"run": "/nowhere"}))
    assert f"{alone}: is of /nowhere, which is not there" in compare(capsys, alone, code=2)
