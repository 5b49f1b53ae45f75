"""``smoe-ds export``: decodes to the bit as its run does, without DeepSpeed; pruning says what it costs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from smoe_ds.cli.main import main
from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.load import ExportFolder, load_translator
from tests.helpers.random_run import random_run

LINES = ["The house sees snow.", "", "My old friend opens the blue door.", "A small dog finds two birds."]


def export(*arguments: object) -> int:
    return main(["export", *map(str, arguments), "--device", "cpu"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_translations_and_scores_are_the_run_s_to_the_bit(
    run_dir: Path, tmp_path: Path, dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(run_dir, "--output", tmp_path / "out", "--dtype", dtype, "--checkpoint", "last") == 0
    err = capsys.readouterr().err
    run = load_translator(run_dir, "last", dtype=dtype, device="cpu")
    exported = load_translator(tmp_path / "out", dtype=dtype, device="cpu")
    expected = run.translate(LINES, "nso")
    assert exported.translate(LINES, "nso") == expected
    targets = [translation.tokens for translation in expected]
    assert exported.score(LINES, targets, "nso") == run.score(LINES, targets, "nso")
    size = {"float32": 4, "bfloat16": 2, "float16": 2}[dtype]
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert {weight.element_size() for weight in weights.values()} == {size}
    numbers = sum(weight.numel() for weight in weights.values())
    assert f"step 60, {numbers:,} parameters in {dtype} ({numbers * size / 2**20:.1f} MiB)" in err


def test_it_decodes_where_deepspeed_is_not_installed(run_dir: Path, tmp_path: Path) -> None:
    assert export(run_dir, "--output", tmp_path / "out", "--dtype", "bfloat16", "--set", "smoe.decode.beam_size=2") == 0
    shutil.copytree(tmp_path / "out", tmp_path / "elsewhere")
    program = (
        "import sys\n"
        "for name in ('deepspeed', 'mpi4py', 'tensorboard'): sys.modules[name] = None\n"
        "from smoe_ds.cli.main import main\n"
        "code = main(['translate', sys.argv[1], '--to', 'nso', '--scores', '--device', 'cpu'])\n"
        "assert sys.modules['deepspeed'] is None\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "elsewhere" / "model.safetensors")],
        input="\n".join(LINES),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = load_translator(tmp_path / "out", device="cpu")
    assert expected.decode.beam_size == 2
    assert done.stdout == "".join(f"{t.score:.6f}\t{t.text}\n" for t in expected.translate(LINES, "nso"))


def test_evaluate_takes_it_and_only_its_step(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert export(run_dir, "--output", out) == 0
    some = ["--device", "cpu", "--limit", "3", "--directions", "eng-nso"]
    assert main(["evaluate", str(out), *some, "--checkpoint", "30"]) == 0
    assert main(["evaluate", str(run_dir), *some, "--output", str(tmp_path / "run.json")]) == 0
    ours, theirs = (json.loads(file.read_text("utf-8")) for file in (out / "scores.json", tmp_path / "run.json"))
    assert ours["checkpoint"]["step"] == theirs["checkpoint"]["step"] == 30
    assert ours["samples"] == theirs["samples"]
    assert main(["evaluate", str(out), *some, "--checkpoint", "60"]) == 2
    assert "is step 30, not 60" in capsys.readouterr().err
    assert export(out, "--output", tmp_path / "again", "--dtype", "bfloat16") == 0
    assert ExportFolder(tmp_path / "again").export.dtype == "bfloat16"


def test_pruning_reports_what_it_costs(tmp_path: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = random_run(tmp_path, corpus, steps=(5,), moe={"strata": [2, 4], "bias_balancing": 0.0})
    out = tmp_path / "out"
    pruning = ["--keep-experts", 4, "--directions", "eng-nso,nso-eng", "--limit", 6]
    assert export(run_dir, "--output", out, *pruning) == 0
    printed, _ = capsys.readouterr()
    trained = ExportFolder(out, device="cpu")
    assert set(trained.removed_experts) == {"encoder.layers.1.ffn", "decoder.layers.1.ffn"}
    for block, removed in trained.removed_experts.items():
        assert len(removed) == 2
        assert f"{block}: 4 of 6 experts kept, removed {removed[0]}, {removed[1]}\n" in printed
    names = load_file(out / "model.safetensors").keys()
    assert {
        int(n.split(".experts.")[1].split(".")[0]) for n in names if n.startswith("encoder") and ".experts." in n
    } == {e for e in range(6) if e not in trained.removed_experts["encoder.layers.1.ffn"]}
    content = json.loads((out / "export.json").read_text("utf-8"))["pruning"]
    assert content["rule"] == {"number": 4, "share": None}
    assert content["directions"] == ["eng-nso", "nso-eng"] and content["split"] == "valid"
    scores = json.loads((out / "pruning_scores.json").read_text("utf-8"))
    for folder, kind in ((run_dir, "whole"), (out, "pruned")):
        arguments = ["--limit", "6", "--directions", "eng-nso,nso-eng", "--output", str(tmp_path / f"{kind}.json")]
        assert main(["evaluate", str(folder), "--device", "cpu", *arguments]) == 0
        evaluated = json.loads((tmp_path / f"{kind}.json").read_text("utf-8"))["directions"]
        for direction, result in evaluated.items():
            assert scores["directions"][direction][kind] == {n: result[n] for n in ("bleu", "chrf", "length_ratio")}
    row = next(line.split() for line in printed.splitlines() if line.startswith("eng-nso"))
    before, after = (scores["directions"]["eng-nso"][kind]["chrf"] for kind in ("whole", "pruned"))
    assert row[-3:] == [f"{before:.2f}", f"{after:.2f}", f"{after - before:.2f}"]
    assert export(out, "--output", tmp_path / "again") == 2
    assert "lacks experts that were removed" in capsys.readouterr().err


def test_merging_reports_what_it_costs(tmp_path: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = random_run(tmp_path, corpus, steps=(5,), moe={"strata": [2, 4], "bias_balancing": 0.0})
    out = tmp_path / "out"
    merging = ["--merge-experts", 4, "--directions", "eng-nso,nso-eng", "--limit", 3]
    assert export(run_dir, "--output", out, *merging) == 0
    printed, _ = capsys.readouterr()
    content = json.loads((out / "export.json").read_text("utf-8"))
    weights, whole = load_file(out / "model.safetensors"), load_translator(run_dir, device="cpu").model.state_dict()
    for block, removed in content["removed_experts"].items():
        groups = content["pruning"]["groups"][block]
        assert len(removed) == 2 and removed == sorted(e for group in groups for e in group["experts"][1:])
        first = "+".join(map(str, sorted(groups[0]["experts"])))
        assert f"{block}: 4 of 6 experts left, merged {first} (CKA 0." in printed
        for e in (e for e in range(6) if e not in removed):
            name = f"{block}.experts.{e}.w1"
            assert torch.equal(weights[name], whole[name]) is (e not in [group["experts"][0] for group in groups])
    assert content["pruning"]["rule"] == {"merge": 4}
    scores = json.loads((out / "pruning_scores.json").read_text("utf-8"))["directions"]["eng-nso"]
    evaluated = ["evaluate", str(out), "--device", "cpu", "--limit", "3", "--directions", "eng-nso"]
    assert main(evaluated) == 0
    found = json.loads((out / "scores.json").read_text("utf-8"))["directions"]["eng-nso"]
    assert scores["pruned"] == {name: found[name] for name in ("bleu", "chrf", "length_ratio")}
    assert "BLEU whole  merged  difference" in printed


def test_merging_nothing_changes_nothing(run_dir: Path, tmp_path: Path) -> None:
    assert export(run_dir, "--output", tmp_path / "out", "--merge-experts", 4, "--limit", 1) == 0
    exported, run = (load_translator(folder, device="cpu") for folder in (tmp_path / "out", run_dir))
    assert exported.translate(LINES, "cat") == run.translate(LINES, "cat")


def test_pruning_nothing_changes_nothing(run_dir: Path, tmp_path: Path) -> None:
    assert export(run_dir, "--output", tmp_path / "out", "--keep-share", 0, "--limit", 1) == 0
    exported, run = (load_translator(folder, device="cpu") for folder in (tmp_path / "out", run_dir))
    assert exported.translate(LINES, "cat") == run.translate(LINES, "cat")
    parameters = dict(run.model.named_parameters())
    assert all(torch.equal(weight, parameters[name]) for name, weight in exported.model.named_parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "45"], "there are the steps 30, 60"),
        (["--keep-experts", "2"], "--keep-experts 2: expected 3 to 4"),
        (["--keep-share", "2"], "expected a number from 0 to 1"),
        (["--keep-share", "0.1", "--directions", "eng-xyz"], "no direction 'eng-xyz'"),
        (["--keep-share", "0.1", "--keep-experts", "3"], "not allowed with"),
        (["--merge-experts", "2"], "--merge-experts 2: expected 3 to 4"),
        (["--merge-experts", "3", "--keep-experts", "3"], "not allowed with"),
        (["--keep-experts", "3", "--data", "/nowhere"], "/nowhere: no such folder (--data)"),
    ],
)
def test_mistakes_are_named(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert export(run_dir, "--output", tmp_path / "out", *arguments) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_dense_model_has_nothing_to_prune(tmp_path: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = random_run(tmp_path, corpus, moe={"strata": []})
    assert export(run_dir, "--output", tmp_path / "out", "--keep-experts", 1) == 2
    assert "is a dense model; leave --keep-experts" in capsys.readouterr().err
    assert export(run_dir, "--output", tmp_path / "out", "--directions", "eng-nso") == 2
    assert "is a dense model without experts; leave --directions out" in capsys.readouterr().err
