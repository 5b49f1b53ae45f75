"""Every system of the paper's tables, and every option of a block, through ``smoe-ds train``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from smoe_ds.config.language_capacity import LanguageCapacity
from smoe_ds.config.model import ModelConfig
from smoe_ds.data.corpus import Corpus
from smoe_ds.errors import ConfigError
from smoe_ds.train.open_data import check_language_capacity
from tests.helpers.small_run import scalars, small_run
from tests.train.test_run import checkpoint_hashes, train

SYSTEMS = {
    "eom": ["smoe.moe.strata=[4]", "smoe.moe.expert_output_masking=0.1"],
    "cmr": ["smoe.moe.strata=[4]", "smoe.moe.shared_expert=cmr"],
    "pr_moe": [
        "smoe.moe.top_k=1",
        "smoe.moe.shared_expert=residual",
        "smoe.moe.final_output_masking=0.2",
        'smoe.moe.layers={"*.2": {"strata": [4]}}',
    ],
    "mh_moe": ["smoe.moe.heads=4", "smoe.moe.norm=released"],
    "stacking": ["smoe.moe.strata=[2,2]", "smoe.moe.stacked=true"],
    "adapters": ["smoe.moe.strata=[2,2]", 'smoe.moe.experts={"kind": "adapters", "rank": 8}'],
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
        "smoe.train.cooldown_steps=1",
    ],
}


SPREAD = [
    ["smoe.moe.ep_size=1"],
    ["smoe.moe.ep_size=2", "smoe.moe.exchange_chunks=2"],
    ["smoe.moe.ep_size=2", "smoe.moe.heads=4", "smoe.moe.shared_expert=residual"],
]


@pytest.mark.multirank
def test_chains_resume_to_the_bit_at_two_ranks(tmp_path: Path, corpus_folder: Path) -> None:
    settings = ['smoe.moe.experts={"kind": "mpo", "bond": 8}', "smoe.moe.ep_size=2", "zero_optimization.stage=1"]
    whole = train(tmp_path, small_run(tmp_path / "whole", corpus_folder, max_steps=4), *settings)
    parts = small_run(tmp_path / "parts", corpus_folder, max_steps=4)
    train(tmp_path, parts, *settings, "smoe.train.max_steps=2")
    assert checkpoint_hashes(train(tmp_path, parts, *settings), 4) == checkpoint_hashes(whole, 4)


@pytest.mark.parametrize("name", SYSTEMS)
def test_system_trains(tmp_path: Path, corpus_folder: Path, name: str) -> None:
    logged = scalars(train(tmp_path, small_run(tmp_path / "run", corpus_folder), *SYSTEMS[name], world_size=1))
    assert logged["train/nll"][6] < logged["train/nll"][1]
    assert ("train/cmr_budget_loss" in logged) == (name == "cmr")
    assert ("train/router_z_loss" in logged) == (name == "all options")
    rates = logged["train/learning_rate"]
    assert rates[6] == pytest.approx(rates[5] * (5 / 6) ** 0.5 * (0.5 if name == "all options" else 1.0))
    if name == "stacking":
        assert set(logged["moe_requested_capacity/encoder.1"].values()) == {2.0}


@pytest.mark.multirank
def test_languages_with_parts_of_their_own(tmp_path: Path, corpus: Corpus) -> None:
    """Neither activation checkpointing nor an interruption changes the run: noise on the gates grows with the step."""
    languages = f"smoe.model.language_capacity.languages={len(corpus.tokenizer.languages)}"
    settings = [languages, "smoe.moe.ep_size=2", "smoe.model.language_capacity.share=0.2"]
    whole = train(tmp_path, small_run(tmp_path / "whole", corpus.path), *settings)
    hashes, logged = checkpoint_hashes(whole, 6), scalars(whole)
    assert logged["train/nll"][6] < logged["train/nll"][1]
    assert 0 < logged["train/language_budget_loss"][1] < 0.8
    again = small_run(tmp_path / "again", corpus.path)
    assert checkpoint_hashes(train(tmp_path, again, *settings, "smoe.train.activation_checkpointing=true"), 6) == hashes
    shutil.rmtree(whole / "checkpoints" / "step_00000006")
    assert checkpoint_hashes(train(tmp_path, small_run(whole, corpus.path), *settings), 6) == hashes


def test_a_wrong_number_of_languages_is_refused(corpus: Corpus) -> None:
    found = len(corpus.tokenizer.languages)
    check_language_capacity(ModelConfig(language_capacity=LanguageCapacity(languages=found)), corpus.tokenizer)
    check_language_capacity(ModelConfig(), corpus.tokenizer)
    with pytest.raises(ConfigError, match=rf"languages is {found + 1}, but .* set it to {found}"):
        check_language_capacity(ModelConfig(language_capacity=LanguageCapacity(languages=found + 1)), corpus.tokenizer)


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
@pytest.mark.parametrize(("ep_size", "stage"), [(2, 1), (1, 2), (2, 0)])
def test_experts_that_come_and_go_survive_a_resume(
    tmp_path: Path, corpus_folder: Path, ep_size: int, stage: int
) -> None:
    """Stopped in the middle of a window and after it; a new expert is there, and the translator has it too."""
    router = {"kind": "dynamic", "start_experts": 1, "cycle": 5, "record_after": 1, "record_steps": 3}
    settings = [
        f"smoe.moe.router={json.dumps(router)}",
        f"smoe.moe.ep_size={ep_size}",
        f"zero_optimization.stage={stage}",
        "train_batch_size=4",
        "smoe.train.checkpoint_every=1",
        "smoe.train.keep_last=9",
    ]
    whole = train(tmp_path, small_run(tmp_path / "whole", corpus_folder), *settings)
    parts = small_run(tmp_path / "parts", corpus_folder)
    train(tmp_path, parts, *settings, "smoe.train.max_steps=2")
    train(tmp_path, parts, *settings, "smoe.train.max_steps=5")
    resumed = train(tmp_path, parts, *settings)
    for step in (3, 4, 6):
        assert checkpoint_hashes(resumed, step) == checkpoint_hashes(whole, step), step

    from smoe_ds.checkpoints.format import read_weights
    from smoe_ds.decode.load import TrainedRun, load_weights

    run = TrainedRun(resumed)
    weights = {step: read_weights(resumed / "checkpoints" / f"step_{step:08d}") for step in (3, 4, 6)}
    router_name = "encoder.layers.1.ffn.mixtures.0.router"
    before, after, last = (
        {name: weights[step][f"{router_name}.{name}"] for name in ("weight", "threshold", "active", "records")}
        for step in (3, 4, 6)
    )
    assert before["records"].any() and not after["records"].any()
    assert before["active"].sum() == 1 and after["active"].sum() == 2
    (slot,) = (after["active"] - before["active"]).nonzero().flatten().tolist()
    assert after["weight"][slot].norm() == pytest.approx(1.0, abs=1e-5) and after["threshold"][slot] == 0
    assert last["threshold"][slot] != 0  # it learns

    model = run.untrained_model()
    load_weights(model, weights[6], run.checkpoint("last"))
    assert model.encoder.layers[1].ffn.mixtures[0].router.active.tolist() == last["active"].tolist()


MIXED: list[dict[str, Any]] = [
    {
        "encoder.1": {"router": {"kind": "hash"}},
        "encoder.2": {"router": {"kind": "expert_choice"}, "strata": [4]},
        "decoder.1": {"router": {"kind": "top_p"}, "strata": [2, 4]},
        "decoder.2": {"router": {"kind": "task"}, "strata": [2, 2, 2]},
    },
    {
        "encoder.1": {"router": {"kind": "random", "consistency": 0.0}, "strata": [2, 2]},
        "encoder.2": {"router": {"kind": "base"}, "strata": [4]},
        "decoder.1": {"router": {"kind": "sinkhorn"}, "strata": [2, 2]},
        "decoder.2": {"strata": []},
    },
]


@pytest.mark.multirank
@pytest.mark.parametrize("layers", MIXED, ids=["chosen", "drawn"])
def test_blocks_of_every_kind_beside_each_other(
    tmp_path: Path, corpus_folder: Path, layers: dict[str, dict[str, Any]]
) -> None:
    """Two ranks that share the experts learn what one process learns, and go on to the bit where they stopped."""
    settings = [
        "smoe.moe.every=1",
        "smoe.moe.second_expert=argmax",
        "smoe.moe.capacity_factor=null",
        "smoe.moe.load_balancing_batch=local",  # of each micro-batch, however many run at once
        f"smoe.moe.layers={json.dumps(layers)}",
        "smoe.model.dropout=0.0",
        "smoe.model.attention_dropout=0.0",
    ]
    alone = train(tmp_path, small_run(tmp_path / "alone", corpus_folder), *settings, world_size=1)
    shared = [*settings, "smoe.moe.ep_size=2"]
    whole = train(tmp_path, small_run(tmp_path / "whole", corpus_folder), *shared)
    one, two = (list(scalars(run)["train/nll"].values()) for run in (alone, whole))
    assert two == pytest.approx(one, rel=1e-4)
    parts = small_run(tmp_path / "parts", corpus_folder)
    train(tmp_path, parts, *shared, "smoe.train.max_steps=2")
    assert checkpoint_hashes(train(tmp_path, parts, *shared), 6) == checkpoint_hashes(whole, 6)


@pytest.mark.multirank
@pytest.mark.parametrize("spread", SPREAD, ids=str)
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
