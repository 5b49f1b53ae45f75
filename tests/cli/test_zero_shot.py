"""Pairs without training text, and pairs without held-out text: prepared, trained around, scored by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smoe_ds.cli.main import main
from smoe_ds.data.corpus import Corpus
from tests.helpers.prepared import prepare_spec, sentence, small_spec, translate, write_lines, write_pair
from tests.helpers.ranks import run_ranks
from tests.helpers.small_run import small_run, train_on_rank, write_run

TRAINED = ["cat-eng", "eng-cat", "eng-nso", "eng-rus", "nso-eng", "rus-eng"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """eng-nso and eng-cat with drawn sets, eng-rus without any, cat-nso with a test set alone."""
    folder = tmp_path_factory.mktemp("corpus")
    spec = small_spec(folder, languages=("nso", "cat"))
    spec["pairs"].append(
        {"pair": "eng-rus", "train": write_pair(folder, "train", "rus", range(100)), "valid": [], "test": []}
    )
    lines = {name: [translate(sentence(number), name) for number in range(120, 130)] for name in ("cat", "nso")}
    files = [write_lines(folder / f"test.cat-nso.{name}", text) for name, text in lines.items()]
    spec["pairs"].append({"pair": "cat-nso", "test": {"src": files[0], "tgt": files[1]}})
    return prepare_spec(folder, spec)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run = small_run(folder / "run", corpus.path, max_steps=2, validate_every=2, checkpoint_every=2)
    file = write_run(folder / "run.json", run)
    assert run_ranks(train_on_rank, 1, str(file), [], init=False, timeout=240) == [0]
    return folder / "run"


def test_what_is_only_scored_is_out_of_training(corpus: Corpus) -> None:
    assert corpus.directions_of("train") == tuple(TRAINED)
    assert set(corpus.directions_of("test")) - set(TRAINED) == {"cat-nso", "nso-cat"}
    assert set(corpus.directions_of("valid")) == {"cat-eng", "eng-cat", "eng-nso", "nso-eng"}
    tested = {sentence(number) for number in range(120, 130)}
    for name in ("cat", "nso"):
        pairs = corpus.sentences("train", f"eng-{name}")
        trained = {corpus.tokenizer.decode(pairs[number][0].tolist()) for number in range(len(pairs))}
        assert len(trained & {sentence(number) for number in range(400)}) > 300 and not trained & tested
        assert corpus.manifest["report"][f"eng-{name}"]["train"]["dropped"]["held_out"] > 0


def evaluate(run_dir: Path, *arguments: str) -> list[str]:
    assert main(["evaluate", str(run_dir), "--device", "cpu", "--limit", "2", *arguments]) == 0
    return list(json.loads((run_dir / "scores.json").read_text(encoding="utf-8"))["directions"])


def test_all_but_what_has_no_text_is_trained_and_scored(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(run_dir) == ["cat-eng", "eng-cat", "eng-nso", "nso-eng"]
    assert "no test text, left out: eng-rus, rus-eng" in capsys.readouterr().err


def test_zero_shot_directions_are_scored_by_name(run_dir: Path) -> None:
    assert evaluate(run_dir, "--directions", "zero-shot") == ["cat-nso", "nso-cat"]
    assert evaluate(run_dir, "--directions", "nso-cat,eng-nso,zero-shot") == ["nso-cat", "eng-nso", "cat-nso"]


def test_no_such_text(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run_dir), "--device", "cpu", "--split", "valid", "--directions", "zero-shot"]) == 2
    assert "names none; the corpus has cat-eng, eng-cat, eng-nso, nso-eng" in capsys.readouterr().err
