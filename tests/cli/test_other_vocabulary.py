"""Weights and a vocabulary of the same size that do not belong together are told by one line, whatever the command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from smoe_ds.checkpoints.format import read_manifest, resolve_checkpoint, step_folders, write_manifest, write_state
from smoe_ds.checkpoints.vocabulary import VOCABULARY, recorded_vocabulary
from smoe_ds.cli.main import main
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.decode.load import TrainedRun
from smoe_ds.errors import CheckpointError
from smoe_ds.weights.start_from import InitialWeights

UNKNOWN_FIELD = b"\x78\x01"  # makes another file of a SentencePiece model, and changes nothing of what it does
COMMANDS = {
    "translate": ["--to", "nso", "--input", "/dev/null"],
    "evaluate": ["--limit", "1"],
    "analyze": ["--limit", "1"],
    "report": [],
    "export": ["--output", "OUT"],
    "average": ["--last", "2", "--output", "OUT"],
}


@pytest.fixture(scope="module")
def swapped(run_dir: Path, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that has recorded its vocabulary, and has got another one of the same size."""
    run = Path(shutil.copytree(run_dir, tmp_path_factory.mktemp("swapped") / "run"))
    for folder in step_folders(run / "checkpoints"):
        manifest = read_manifest(folder)
        state = write_state(folder, {"step": manifest.step, "extra": {VOCABULARY: corpus.tokenizer.sha256}})
        write_manifest(folder, manifest.step, [*manifest.files, state])
    assert TrainedRun(run).checkpoint().is_dir()
    with (run / "tokenizer.model").open("ab") as file:
        file.write(UNKNOWN_FIELD)
    assert Tokenizer(run / "tokenizer.model").vocab_size == corpus.tokenizer.vocab_size
    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_one_line_names_both(
    command: str, swapped: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(tmp_path / "out") if word == "OUT" else word for word in COMMANDS[command]]
    if command == "report":  # the page says what it lacks, as where there are no weights
        assert main([command, str(swapped), "--output", str(tmp_path / "r.html"), *arguments]) == 0
        text = (tmp_path / "r.html").read_text(encoding="utf-8")
        assert "everything that needs weights: " in text and "are of another vocabulary than" in text
        return
    corpus_of_both = ["--data", str(corpus.path)] if command in ("evaluate", "analyze") else []
    assert main([command, str(swapped), *arguments, *corpus_of_both]) == 2
    out, err = capsys.readouterr()
    expected = (
        f"its weights are of another vocabulary than {swapped}/tokenizer.model: SHA-256 {corpus.tokenizer.sha256[:12]}"
    )
    if command == "analyze":  # which compares the corpus first
        expected = "another vocabulary than the model's"
    assert out == "" and expected in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_run_does_not_start_with_such_weights(swapped: Path) -> None:
    sha256 = Tokenizer(swapped / "tokenizer.model").sha256
    with pytest.raises(CheckpointError, match="its weights are of another vocabulary than"):
        InitialWeights(swapped, sha256)


def test_what_is_not_recorded_is_not_told(run_dir: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / "run"))
    with (run / "tokenizer.model").open("ab") as file:
        file.write(UNKNOWN_FIELD)
    assert recorded_vocabulary(resolve_checkpoint(run)) is None
    assert main(["translate", str(run), "--to", "nso", "--input", "/dev/null", "--device", "cpu"]) == 0


def test_weights_alone_record_it(run_dir: Path, corpus: Corpus, tmp_path: Path) -> None:
    assert main(["average", str(run_dir), "--last", "2", "--output", str(tmp_path / "mean")]) == 0
    assert recorded_vocabulary(resolve_checkpoint(tmp_path / "mean")) == corpus.tokenizer.sha256


@pytest.mark.multirank
def test_training_records_it(trained_run: Path, corpus: Corpus) -> None:
    assert recorded_vocabulary(resolve_checkpoint(trained_run)) == corpus.tokenizer.sha256
