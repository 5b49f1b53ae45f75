"""A run starts with given weights: exact fp32 masters in every topology and precision; others are refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from smoe_ds.errors import CheckpointError
from smoe_ds.weights.export import write_export
from tests.helpers.engines import VOCAB, Setup, full_state, make_engine
from tests.helpers.random_run import scattered, write_checkpoint
from tests.helpers.ranks import run_ranks

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
