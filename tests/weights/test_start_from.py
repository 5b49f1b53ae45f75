"""A run starts with given weights: exact fp32 masters in every topology and precision; others are refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from smoe_ds.config.load import load_run
from smoe_ds.data.corpus import Corpus
from smoe_ds.errors import CheckpointError
from smoe_ds.weights.export import write_export
from smoe_ds.weights.start_from import changed_settings, check_same_function
from tests.helpers.engines import VOCAB, Setup, full_state, make_engine
from tests.helpers.random_run import random_run, scattered, write_checkpoint
from tests.helpers.ranks import run_ranks
from tests.helpers.small_run import train_here, write_run

pytestmark = pytest.mark.multirank

TOKENIZER = b"a vocabulary"
SETUPS = [Setup(0), Setup(1, "bf16", ep_size=2, gradient_dtype="fp32"), Setup(2, "fp16", ep_size=2, offload=True)]
Masters = dict[str, torch.Tensor]


def start(rank: int, world_size: int, path: Path, setups: list[Setup]) -> list[tuple[Masters, Masters] | str]:
    """Per engine: fp32 masters that this rank owns and the parameters it computes with, or the refusal."""
    from smoe_ds.weights.start_from import load_initial_weights

    results: list[tuple[Masters, Masters] | str] = []
    for setup in setups:
        engine = make_engine(rank, world_size, setup)
        try:
            load_initial_weights(engine, path, hashlib.sha256(TOKENIZER).hexdigest())
            state = full_state(engine)
            parts = (
                {n.split("/", 1)[1]: t for n, t in state.items() if n.startswith(k)} for k in ("master/", "model/")
            )
            results.append(tuple(parts))  # type: ignore[arg-type]
        except CheckpointError as error:
            results.append(str(error))
        engine.destroy()
    return results


def whole_model_weights() -> dict[str, torch.Tensor]:
    from smoe_ds.config.model import ModelConfig
    from smoe_ds.config.moe import MoeConfig
    from smoe_ds.model.transformer import Transformer

    sizes = ModelConfig(d_model=10, d_ffn=7, num_heads=2, encoder_layers=2, decoder_layers=2)
    return scattered(Transformer(sizes, MoeConfig(strata=[2, 4]), VOCAB, seed=9), 3)


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return whole_model_weights()


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, torch.Tensor]) -> Path:
    folder = tmp_path_factory.mktemp("start")
    write_checkpoint(folder / "checkpoints", 7, weights)
    (folder / "tokenizer.model").write_bytes(TOKENIZER)
    return folder


def test_masters_are_the_given_weights_to_the_bit(run_dir: Path, weights: dict[str, torch.Tensor]) -> None:
    by_rank = run_ranks(start, 2, run_dir, SETUPS, timeout=240)
    for number, setup in enumerate(SETUPS):
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[setup.precision]
        owned = {}
        for result in (results[number] for results in by_rank):
            assert not isinstance(result, str), result
            owned |= result[0]
            for name, parameter in result[1].items():
                assert torch.equal(parameter, weights[name].to(dtype).float()), (setup, name)
        assert owned.keys() == weights.keys()
        assert all(torch.equal(owned[name], weights[name]) for name in weights), setup


def test_an_export_starts_a_run_too(run_dir: Path, tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    half = {name: weight.bfloat16() for name, weight in weights.items()}
    for name, removed in (("whole", {}), ("pruned", {"encoder.layers.1.ffn": [0]})):
        write_export(
            tmp_path / name,
            {},
            run_dir / "tokenizer.model",
            half,
            step=7,
            dtype="bfloat16",
            source={},
            removed_experts=removed,
        )
    [[result]] = run_ranks(start, 1, tmp_path / "whole", [Setup(1)])
    assert not isinstance(result, str)
    assert all(torch.equal(result[0][name], half[name].float()) for name in weights)
    [[refusal]] = run_ranks(start, 1, tmp_path / "pruned", [Setup(1)])
    assert "lacks experts that were removed on export" in refusal


def test_other_models_and_vocabularies_are_refused_on_all_ranks(run_dir: Path, tmp_path: Path) -> None:
    bigger, smaller = Setup(strata=(4, 4), ep_size=2), Setup(strata=(2, 2))
    for messages in run_ranks(start, 2, run_dir, [bigger, smaller]):
        assert "parameters missing (" in messages[0] and "experts." in messages[0]
        assert "of another shape" in messages[1] or "not in this model" in messages[1]
    other = tmp_path / "other"
    (other / "checkpoints").mkdir(parents=True)
    (other / "checkpoints" / "step_00000007").symlink_to(run_dir / "checkpoints" / "step_00000007")
    (other / "tokenizer.model").write_bytes(b"another vocabulary")
    for place, message in ((other, "is not the vocabulary of this run's corpus"), (tmp_path, "has no checkpoint")):
        [[refusal]] = run_ranks(start, 1, place, [Setup()])
        assert refusal.startswith(f"starting with the weights of {place} (smoe.train.init_from) failed")
        assert message in refusal


KEYS = [
    ("model", "position_offset", 2, "smoe.model.position_offset is 0 and 2"),
    ("model", "activation", "gelu", "smoe.model.activation is 'relu' and 'gelu'"),
    ("model", "num_heads", 4, "smoe.model.num_heads is 2 and 4"),
    ("model", "scale_embedding", False, "smoe.model.scale_embedding is True and False"),
    ("model", "norm_epsilon", 1e-6, "smoe.model.norm_epsilon is 1e-05 and 1e-06"),
    ("data", "source_language_token", "source", "smoe.data.source_language_token is True and 'source'"),
    ("data", "target_language_token", False, "smoe.data.target_language_token is True and False"),
]


@pytest.mark.parametrize(("section", "key", "value", "message"), KEYS)
def test_weights_of_another_function_are_refused(
    corpus: Corpus, tmp_path: Path, section: str, key: str, value: object, message: str
) -> None:
    """All of these fit by their shapes."""
    run_dir = random_run(tmp_path, corpus)
    write_run(tmp_path / "next.json", {"extends": "run.json", "smoe": {section: {key: value}}})
    mine, same = load_run(tmp_path / "next.json").smoe, load_run(tmp_path / "run.json").smoe
    for path in (run_dir, run_dir / "checkpoints" / "step_00000001"):
        with pytest.raises(CheckpointError) as refusal:
            check_same_function(path, mine)
        assert f"(smoe.train.init_from) failed: they were trained with other settings: {message}" in str(refusal.value)
        check_same_function(path, same)


def test_a_mixture_may_be_trained_on_with_another_gate(corpus: Corpus, tmp_path: Path) -> None:
    run_dir = random_run(tmp_path, corpus)
    changes = {"model": {"dropout": 0.3}, "moe": {"norm": "released"}, "decode": {"beam_size": 2}}
    write_run(tmp_path / "next.json", {"extends": "run.json", "smoe": changes})
    mine = load_run(tmp_path / "next.json").smoe
    check_same_function(run_dir, mine)
    assert changed_settings(run_dir, mine) == ["smoe.moe.norm is 'paper' and 'released'"]


def test_the_start_of_a_run_says_so(corpus: Corpus, tmp_path: Path) -> None:
    base = random_run(tmp_path, corpus)
    for section, keys in (("moe", {"expert_output_masking": 0.25}), ("model", {"activation": "gelu"})):
        train = {"output_dir": str(tmp_path / section), "init_from": str(base), "max_steps": 1}
        file = write_run(tmp_path / "next.json", {"extends": "run.json", "smoe": {section: keys, "train": train}})
        code, printed = train_here(file)
        if section == "moe":
            assert code == 0, printed
            assert (
                "warning: smoe.moe.expert_output_masking is 0.0 and 0.25 in this run (smoe.train.init_from)" in printed
            )
        else:
            assert code == 2
            assert "smoe.model.activation is 'relu' and 'gelu' in this run" in printed
