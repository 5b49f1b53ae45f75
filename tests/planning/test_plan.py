"""The plan of a run against the model, the engine and the tensors that the run really has."""

from __future__ import annotations

import pytest
import torch

from smoe_ds.config import load_run
from smoe_ds.model.transformer import Transformer
from smoe_ds.planning.memory import saved_activations
from smoe_ds.planning.paper_tables import paper_rows
from smoe_ds.planning.plan import make_plan
from tests.helpers.environment import ROOT

CONFIGS = ROOT / "ds_configs"
SMALL = [
    "smoe.model.d_model=64",
    "smoe.model.d_ffn=128",
    "smoe.model.num_heads=2",
    "smoe.model.encoder_layers=2",
    "smoe.model.decoder_layers=2",
    "smoe.data.max_tokens=1024",
    "fp16.enabled=false",
]
SLIPS = {"Stacking 4 2-expert MoE", "SMoE-8-4-4"}


def test_every_cell_of_the_paper_but_its_two_slips() -> None:
    rows = paper_rows()
    assert (len(rows), {row.system for row in rows if row.note}) == (21, SLIPS)
    for row in rows:
        rounding = 5e6 if row.published_parameters > 1e9 else 1e6
        assert abs(row.parameters - row.published_parameters) <= rounding, row
        assert row.only_rounded == (row.system == "CMR" and row.table == "M15"), row
        assert (abs(row.flops_per_token - row.published_flops_per_token) <= 1e6) == (row.system not in SLIPS), row


@pytest.mark.parametrize("strata", ["[]", "[4]", "[2,2]", "[2,2,2,2]"])
def test_parameters_are_those_of_the_model(strata: str) -> None:
    run = load_run(CONFIGS / "m4.json", [*SMALL, f"smoe.moe.strata={strata}"])
    plan = make_plan(run, vocab_size=100)
    model = Transformer(run.smoe.model, run.smoe.moe, 100)
    assert plan.parameters["total"] == sum(p.numel() for p in model.parameters())
    assert plan.parameters_per_device == plan.parameters["total"]


def test_shapes_that_the_paper_does_not_count() -> None:
    for setting in ("smoe.moe.every=1", "smoe.model.activation=swiglu", "smoe.model.encoder_layers=4"):
        assert make_plan(load_run(CONFIGS / "m15.json", [setting])).paper_parameters is None
    relu, swiglu = (
        make_plan(load_run(CONFIGS / "m15.json", [f"smoe.model.activation={name}"])) for name in ("relu", "swiglu")
    )
    assert (relu.dense_flops, swiglu.dense_flops) == ("published", "own")
    assert swiglu.flops_per_token > relu.flops_per_token
    assert relu.paper_parameters is not None


def test_shares_of_zero_and_expert_parallelism() -> None:
    settings = [*SMALL, "smoe.moe.strata=[4,4]", "smoe.moe.ep_size=2", "zero_optimization.stage=2"]
    run = load_run(CONFIGS / "m4.json", settings)
    plan = make_plan(run, vocab_size=100, world_size=4)
    dense = plan.parameters["total"] - plan.parameters["experts"]
    share = dense // 4 + plan.parameters["experts"] // 2 // 2
    assert plan.parameters_per_device == dense + plan.parameters["experts"] // 2
    assert plan.memory["optimizer"] == pytest.approx(8 * share, abs=8)
    assert plan.memory["gradients"] == pytest.approx(4 * share, abs=8)
    offload = 'zero_optimization.offload_optimizer={"device": "cpu"}'
    moved = make_plan(load_run(CONFIGS / "m4.json", [*settings, offload]), vocab_size=100, world_size=4)
    assert "optimizer" not in moved.memory
    assert moved.host_memory["optimizer"] == plan.memory["optimizer"]


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("strata", ["[]", "[4]", "[2,2]"])
def test_saved_activations_are_near_what_autograd_keeps(strata: str, dropout: float) -> None:
    """Unique storages that the backward pass finds, parameters left out; full batches, few tokens to a sentence."""
    run = load_run(
        CONFIGS / "m4.json",
        [
            *SMALL,
            f"smoe.moe.strata={strata}",
            f"smoe.model.dropout={dropout}",
            "smoe.model.attention_dropout=0.0",
            "smoe.moe.capacity_factor=null",
        ],
    )
    model = Transformer(run.smoe.model, run.smoe.moe, 500)
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    tokens = torch.randint(4, 500, (16, 32))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits, _ = model(tokens, tokens)
        loss = torch.nn.functional.cross_entropy(logits.view(-1, 500), tokens.view(-1))
    assert loss.requires_grad
    assert saved_activations(run, 500) == pytest.approx(sum(kept.values()), rel=0.25)
