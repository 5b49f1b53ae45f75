"""``smoe-ds import``: refused without trust; with it, the weights that DeepSpeed's engine had, as a run folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from smoe_ds.checkpoints.format import read_state
from smoe_ds.cli.main import main
from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.load import TrainedRun
from tests.helpers.engines import engine_of_run
from tests.helpers.ranks import run_ranks
from tests.helpers.small_run import small_run, write_run

pytestmark = pytest.mark.multirank


def save(rank: int, world_size: int, run_file: str, folder: str) -> None:
    """An engine of the run, fresh, saved by DeepSpeed itself."""
    from smoe_ds.config import load_run

    run = load_run(run_file)
    vocab_size = Corpus(Path(run.smoe.data.path), verify=False).tokenizer.vocab_size
    engine_of_run(run, vocab_size, rank, world_size).save_checkpoint(folder, tag="begin")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Path:
    """DeepSpeed's folder, with the run file ``run.json`` beside it."""
    folder = tmp_path_factory.mktemp("deepspeed")
    run = small_run(folder / "run", corpus.path)
    run["smoe"]["moe"] |= {"strata": [2, 4], "ep_size": 2}
    file = write_run(folder / "run.json", run)
    run_ranks(save, 2, str(file), str(folder / "saved"))
    return folder / "saved"


def import_(checkpoint: Path, output: Path, *arguments: object, folder: str = "") -> int:
    run_file = checkpoint.parent / "run.json"
    return main(["import", str(checkpoint / folder), str(run_file), "--output", str(output), *map(str, arguments)])


def test_it_is_refused_without_trust_and_taken_with_it(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert import_(checkpoint, tmp_path / "out") == 2
    assert "reading a pickle can run any program" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

    assert import_(checkpoint, tmp_path / "out", "--trust") == 0
    assert f"step 0, to {tmp_path / 'out'}; Adam's state" in capsys.readouterr().err
    run = TrainedRun(tmp_path / "out", device="cpu")
    translator = run.translator(run.checkpoint())
    expected = dict(run.untrained_model().named_parameters())
    found = dict(translator.model.named_parameters())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert read_state(run.checkpoint())["origin"]["precision"] == "float32"
    assert len(translator.translate(["The house sees snow."], "nso")) == 1
    assert import_(checkpoint, tmp_path / "out", "--trust") == 2
    assert "is there already" in capsys.readouterr().err


def test_the_vocabulary_may_come_from_a_file(checkpoint: Path, corpus: Corpus, tmp_path: Path) -> None:
    nowhere = ["--set", "smoe.data.path=/nowhere", "--tokenizer", corpus.tokenizer.model_file]
    assert import_(checkpoint, tmp_path / "out", "--trust", *nowhere, folder="begin") == 0
    written = (tmp_path / "out" / "tokenizer.model").read_bytes()
    assert hashlib.sha256(written).hexdigest() == corpus.tokenizer.sha256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "smoe.moe.strata=[2,2]"], "does not fit the model of"),
        (["--set", "smoe.model.d_ffn=64"], "instead of [64, 32]"),
        (["--tag", "end"], "there are the tags begin"),
        (["--set", "smoe.data.path=/nowhere"], "/nowhere"),
        (["--tokenizer", "/nowhere/words"], "/nowhere/words: cannot read the SentencePiece model"),
    ],
)
def test_mistakes_are_named(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert import_(checkpoint, tmp_path / "out", "--trust", *arguments) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
