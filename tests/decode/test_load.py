"""Run folders: which checkpoint, which weights, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from smoe_ds.checkpoints.format import read_weights
from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.load import TrainedRun, load_translator
from smoe_ds.errors import CheckpointError, ConfigError, DataError
from tests.helpers.random_run import change_config, random_run


@pytest.mark.parametrize(("which", "step"), [("best", 1), ("last", 3), (2, 2)])
def test_checkpoint_asked_for_is_the_one_loaded(run_dir: Path, which: str | int, step: int) -> None:
    run = TrainedRun(run_dir, device="cpu")
    assert run.checkpoint(which).name == f"step_0000000{step}"
    weights = read_weights(run_dir / "checkpoints" / f"step_0000000{step}")
    loaded = dict(run.translator(run.checkpoint(which)).model.named_parameters())
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


def test_a_checkpoint_folder_names_itself(run_dir: Path) -> None:
    run = TrainedRun(run_dir / "checkpoints" / "step_00000002", device="cpu")
    assert run.folder == run_dir
    assert run.checkpoint().name == "step_00000002"
    assert run.checkpoint(2).name == "step_00000002"
    with pytest.raises(CheckpointError, match="is not step 3"):
        run.checkpoint(3)


def test_model_is_ready_to_decode(run_dir: Path) -> None:
    translator = load_translator(run_dir, overrides=["smoe.decode.beam_size=2"], device="cpu")
    assert not translator.model.training
    assert translator.decode.beam_size == 2


def test_untrained_is_the_model_the_run_began_with(run_dir: Path) -> None:
    from smoe_ds.model.transformer import Transformer

    run = TrainedRun(run_dir, device="cpu")
    smoe = run.config.smoe
    start = Transformer(smoe.model, smoe.moe, run.tokenizer.vocab_size, seed=smoe.train.seed).state_dict()
    found = run.untrained_translator().model.state_dict()
    assert all(torch.equal(found[name], start[name]) for name in start)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("moe", "strata", [2, 3], r"missing \(.*experts\.4\.w1.*\); .*of another shape \(.*gates"),
        ("moe", "strata", [], "missing .*not in this model"),
        ("model", "d_ffn", 64, r"w1 \[48, 32\] instead of \[64, 32\]"),
    ],
)
def test_weights_of_another_model_are_refused(
    tmp_path: Path, corpus: Corpus, section: str, key: str, value: object, message: str
) -> None:
    run_dir = random_run(tmp_path, corpus)
    change_config(run_dir, section, key, value)
    with pytest.raises(CheckpointError, match=message):
        load_translator(run_dir, device="cpu")


def test_damaged_weights_are_refused(tmp_path: Path, corpus: Corpus) -> None:
    run_dir = random_run(tmp_path, corpus)
    part = run_dir / "checkpoints" / "step_00000001" / "model-00000.safetensors"
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        load_translator(run_dir, device="cpu")


def test_what_is_missing_is_named(tmp_path: Path, run_dir: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        TrainedRun(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        TrainedRun(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(run_dir, copy, ignore=shutil.ignore_patterns("step_*"))
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        load_translator(copy, device="cpu")
    (copy / "tokenizer.model").unlink()
    with pytest.raises(DataError, match=r"tokenizer\.model"):
        TrainedRun(copy)
    with pytest.raises(ConfigError, match="beam_size"):
        TrainedRun(run_dir, ["smoe.decode.beamsize=2"])
    with pytest.raises(CheckpointError, match="steps 1, 2, 3"):
        TrainedRun(run_dir).checkpoint(7)
