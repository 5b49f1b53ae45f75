"""``smoe-ds export RUN --directions``: without the experts that these never use, and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from smoe_ds.cli.main import main
from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.load import ExportFolder, load_translator
from smoe_ds.errors import DataError
from smoe_ds.moe.routing import Routing
from tests.helpers.random_run import random_run

LINES = ["The house sees snow.", "", "My old friend opens the blue door.", "A small dog finds two birds."]
BLOCKS = ("encoder.layers.1.ffn", "decoder.layers.1.ffn")
TASK = {"kind": "task", "tasks": 32}


def export(*arguments: object) -> int:
    return main(["export", *map(str, arguments), "--device", "cpu"])


def kept_in(out: Path, block: str) -> set[int]:
    names = load_file(out / "model.safetensors").keys()
    return {int(name.split(".")[5]) for name in names if name.startswith(f"{block}.experts.")}


def used_by(run_dir: Path, target: str, block: str) -> set[int]:
    """Experts of a block that any token gets while the lines are scored: seen by what is called."""
    translator = load_translator(run_dir, "last", device="cpu")
    translator.model.double()
    used: set[int] = set()
    layer = translator.model.get_submodule(block)

    for i, mixture in enumerate(layer.mixtures):
        visible = list(layer.placement.visible_experts(i))

        def remember(_: object, __: object, routing: Routing, visible: list[int] = visible) -> None:
            used.update(visible[e] for e in routing.expert_TK.flatten().tolist())

        mixture.router.register_forward_hook(remember)
    translator.translate(LINES, target)
    return used


@pytest.mark.parametrize("strata", [[16], [6, 6], [3, 4, 5]], ids=str)
@pytest.mark.parametrize("directions", ["eng-nso", "eng-nso,nso-eng"])
def test_only_the_used_experts_are_left(
    tmp_path: Path, corpus: Corpus, strata: list[int], directions: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = random_run(tmp_path, corpus, steps=(5,), moe={"strata": strata, "router": TASK})
    out = tmp_path / "out"
    assert export(run_dir, "--output", out, "--directions", directions) == 0
    printed = capsys.readouterr().out
    whole, cut = (load_translator(folder, "last", device="cpu") for folder in (run_dir, out))
    targets = sorted({name.split("-")[1] for name in directions.split(",")})
    for block in BLOCKS:
        needed = set.union(*(used_by(run_dir, target, block) for target in targets))
        kept = kept_in(out, block)
        assert needed <= kept and len(kept - needed) <= len(strata) + 1  # every stratum keeps one, the last two
        if len(strata) == 1:
            assert kept == needed and len(kept) <= 2 * len(targets)
        assert f"{block}: {len(kept)} of {sum(strata)} experts kept" in printed
    for target in targets:
        expected = whole.translate(LINES, target)
        assert cut.translate(LINES, target) == expected  # scores too, to the bit
        tokens = [translation.tokens for translation in expected]
        assert cut.score(LINES, tokens, target) == whole.score(LINES, tokens, target)
    for act in (lambda: cut.translate(LINES, "cat"), lambda: cut.score(LINES, [()] * 4, "cat")):
        with pytest.raises(DataError, match=rf"language 'cat': its experts were left out .* {', '.join(targets)} only"):
            act()


def test_blocks_that_route_by_tokens_stay_whole(tmp_path: Path, corpus: Corpus) -> None:
    moe = {"strata": [8], "capacity_factor": 1.5}
    moe["layers"] = {"decoder.*": {"router": TASK, "capacity_factor": None}}
    run_dir = random_run(tmp_path, corpus, steps=(5,), moe=moe)
    out = tmp_path / "out"
    assert export(run_dir, "--output", out, "--directions", "eng-nso", "--dtype", "bfloat16") == 0
    assert [len(kept_in(out, block)) for block in BLOCKS] == [8, 2]
    whole, cut = (load_translator(folder, "last", dtype="bfloat16", device="cpu") for folder in (run_dir, out))
    assert cut.translate(LINES, "nso") == whole.translate(LINES, "nso")
    assert ExportFolder(out).targets == ("nso",)
    content = json.loads((out / "export.json").read_text("utf-8"))["pruning"]
    assert content["directions"] == ["eng-nso"] and content["rule"] == {"number": None, "share": None}


def test_translate_says_what_was_left_out(tmp_path: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = random_run(tmp_path, corpus, steps=(5,), moe={"strata": [8], "router": TASK})
    assert export(run_dir, "--output", tmp_path / "out", "--directions", "eng-nso") == 0
    (tmp_path / "lines").write_text("A house.\n", encoding="utf-8")
    arguments = ["translate", str(tmp_path / "out"), "--device", "cpu", "--input", str(tmp_path / "lines")]
    answer = tmp_path / "answer"
    assert main([*arguments, "--to", "nso", "--output", str(answer)]) == 0
    answer.write_text("older", encoding="utf-8")
    assert main([*arguments, "--to", "cat", "--output", str(answer)]) == 2
    assert "language 'cat': its experts were left out" in capsys.readouterr().err
    assert answer.read_text(encoding="utf-8") == "older"


@pytest.mark.parametrize(
    ("moe", "directions", "message"),
    [
        ({"strata": [4]}, "eng-nso", "no block gives a direction fixed experts"),
        ({"strata": [4], "router": TASK, "top_k": 1}, "eng-nso", "with a top_k above 1"),
        ({"strata": [4], "router": TASK}, "nso", "'nso' is no direction; write source and target, such as eng-nso"),
        ({"strata": [4], "router": TASK}, "eng-xyz", "no token for language 'xyz'"),
        ({"strata": [4], "router": TASK}, ",", "--directions: names none"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path,
    corpus: Corpus,
    capsys: pytest.CaptureFixture[str],
    moe: dict[str, Any],
    directions: str,
    message: str,
) -> None:
    run_dir = random_run(tmp_path, corpus, steps=(5,), moe=moe)
    assert export(run_dir, "--output", tmp_path / "out", "--directions", directions) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
