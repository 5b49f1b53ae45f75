"""Every system of the paper's tables, and every option of a block, through ``smoe-ds train``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.small_run import scalars, small_run
from tests.train.test_run import checkpoint_hashes, train

SYSTEMS = {
    "eom": ["smoe.moe.strata=[4]", "smoe.moe.expert_output_masking=0.1"],
    "cmr": ["smoe.moe.strata=[4]", "smoe.moe.shared_expert=cmr"],
    "stacking": ["smoe.moe.strata=[2,2]", "smoe.moe.stacked=true"],
    "all options": [
        "smoe.model.activation=swiglu",
        "smoe.moe.top_k=1",
        "smoe.moe.capacity_order=probability",
        "smoe.moe.capacity_factor=1.0",
        "smoe.moe.shared_expert=add",
        "smoe.moe.jitter=0.01",
        "smoe.moe.gating_dropout=0.2",
        "smoe.moe.router_z_weight=0.001",
        "smoe.moe.load_balancing_weight=0.0",
        "smoe.moe.bias_balancing=0.01",
        "smoe.moe.expert_backend=grouped",
    ],
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_system_trains(tmp_path: Path, corpus_folder: Path, name: str) -> None:
    logged = scalars(train(tmp_path, small_run(tmp_path / "run", corpus_folder), *SYSTEMS[name], world_size=1))
    assert logged["train/nll"][6] < logged["train/nll"][1]
    assert ("train/cmr_budget_loss" in logged) == (name == "cmr")
    assert ("train/router_z_loss" in logged) == (name == "all options")
    if name == "stacking":
        assert set(logged["moe_requested_capacity/encoder.1"].values()) == {2.0}


@pytest.mark.multirank
def test_balancing_biases_survive_a_resume_and_reach_the_translator(tmp_path: Path, corpus_folder: Path) -> None:
    settings = ["smoe.moe.bias_balancing=0.05", "smoe.moe.ep_size=2", "smoe.moe.shared_expert=cmr"]
    whole = train(tmp_path, small_run(tmp_path / "whole", corpus_folder), *settings)
    parts = small_run(tmp_path / "parts", corpus_folder)
    train(tmp_path, parts, *settings, "smoe.train.max_steps=2")
    resumed = train(tmp_path, parts, *settings)
    assert checkpoint_hashes(resumed, 6) == checkpoint_hashes(whole, 6)

    from smoe_ds.checkpoints.format import read_weights
    from smoe_ds.decode.load import TrainedRun, load_weights

    run = TrainedRun(resumed)
    checkpoint = run.checkpoint("last")
    weights, model = read_weights(checkpoint), run.untrained_model()
    load_weights(model, weights, checkpoint)
    steps = model.encoder.layers[1].ffn.bias_steps()
    assert [s.tolist() for s in steps] == [weights[f"encoder.layers.1.ffn.balance_steps_{i}"].tolist() for i in (0, 1)]
    assert 0 < steps[0].abs().max() <= 6
    assert steps[1].tolist() == [0, 0]  # two choices among two experts are always balanced


@pytest.mark.multirank
@pytest.mark.parametrize("spread", [["smoe.moe.ep_size=1"], ["smoe.moe.ep_size=2", "smoe.moe.exchange_chunks=2"]])
def test_activation_checkpointing_changes_nothing(tmp_path: Path, corpus_folder: Path, spread: list[str]) -> None:
    """Dropout, expert sampling, output masking and jitter are on: the second computation draws the same numbers."""
    settings = [*spread, "smoe.moe.expert_output_masking=0.1", "smoe.moe.jitter=0.01"]
    plain = train(tmp_path, small_run(tmp_path / "plain", corpus_folder), *settings)
    kept = small_run(tmp_path / "checkpointed", corpus_folder)
    checkpointed = train(tmp_path, kept, *settings, "smoe.train.activation_checkpointing=true")
    assert checkpoint_hashes(checkpointed, 6) == checkpoint_hashes(plain, 6)


@pytest.mark.slow
def test_compiled_dense_parts_train_as_eager_ones(tmp_path: Path, corpus_folder: Path) -> None:
    settings = ["smoe.model.dropout=0.0", "smoe.model.attention_dropout=0.0", "smoe.moe.second_expert=argmax"]
    eager = scalars(train(tmp_path, small_run(tmp_path / "eager", corpus_folder, max_steps=3), *settings, world_size=1))
    run = small_run(tmp_path / "compiled", corpus_folder, max_steps=3)
    compiled = scalars(train(tmp_path, run, *settings, "smoe.train.compile=true", world_size=1))
    assert list(compiled["train/nll"].values()) == pytest.approx(list(eager["train/nll"].values()), rel=1e-4)
