"""The plan of a run against the model, the engine and the tensors that the run really has."""

from __future__ import annotations

import pytest
import torch

from smoe_ds.config import load_run
from smoe_ds.config.run import RunConfig
from smoe_ds.model.loss import consistency_loss, translation_loss
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe.cost import KINDS
from smoe_ds.moe.expert_backends import Accelerator
from smoe_ds.planning.paper_tables import paper_rows
from smoe_ds.planning.plan import make_plan
from smoe_ds.planning.work import cost_of, work_of
from tests.helpers.counted import counted_bytes
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
@pytest.mark.parametrize("backend", ["loop", "lean", "grouped"])
@pytest.mark.parametrize("strata", ["[]", "[4]", "[2,2]"])
def test_saved_activations_are_near_what_autograd_keeps(strata: str, backend: str, dropout: float) -> None:
    """Full batches, few tokens to a sentence."""
    run = load_run(
        CONFIGS / "m4.json",
        [
            *SMALL,
            f"smoe.moe.strata={strata}",
            f"smoe.moe.expert_backend={backend}",
            f"smoe.model.dropout={dropout}",
            "smoe.model.attention_dropout=0.0",
            "smoe.moe.capacity_factor=null",
        ],
    )
    torch.manual_seed(0)
    model = Transformer(run.smoe.model, run.smoe.moe, 500)
    tokens = torch.randint(4, 500, (16, 32))

    def loss() -> torch.Tensor:
        logits, _ = model(tokens, tokens)
        return torch.nn.functional.cross_entropy(logits.view(-1, 500), tokens.view(-1))

    kept, _ = counted_bytes(model, loss)
    logits = 4 * tokens.numel() * 500
    plan = make_plan(run, vocab_size=500, accelerator=Accelerator("cpu"))
    assert plan.memory["activations"] == pytest.approx(kept + logits, rel=0.1)


def test_two_passes_and_the_loss_between_them() -> None:
    def run(consistency: float, *settings: str) -> RunConfig:
        router = f'smoe.moe.router={{"kind":"random","consistency":{consistency}}}'
        return load_run(CONFIGS / "m4.json", [*SMALL, "smoe.moe.strata=[4]", router, *settings])

    spread = [make_plan(run(alpha, "smoe.moe.ep_size=2"), vocab_size=500) for alpha in (0.0, 5.0)]
    assert [plan.training_passes for plan in spread] == [1, 2]
    assert spread[1].exchange_bytes_per_step == 2 * spread[0].exchange_bytes_per_step > 0
    assert spread[1].flops_per_token == spread[0].flops_per_token
    assert work_of(run(5.0, "smoe.moe.ep_size=2"), 500).exchanged_bytes == pytest.approx(
        2 * work_of(run(0.0, "smoe.moe.ep_size=2"), 500).exchanged_bytes
    )
    thor = run(5.0, "smoe.moe.expert_backend=lean", "smoe.model.attention_dropout=0.0")
    model, tokens = Transformer(thor.smoe.model, thor.smoe.moe, 500), torch.randint(4, 500, (16, 32))

    def loss() -> torch.Tensor:
        (one, _), (other, _) = model(tokens, tokens), model(tokens, tokens)
        return sum((translation_loss(logits, tokens, 0.1).smoothed for logits in (one, other)), torch.zeros(())) + (
            consistency_loss(one, other, tokens)
        )

    kept, _ = counted_bytes(model, loss)
    assert make_plan(thor, vocab_size=500, accelerator=Accelerator("cpu")).memory["activations"] == pytest.approx(
        kept, rel=0.1
    )


SYSTEMS = [
    "smoe.moe.strata=[]",
    "smoe.moe.strata=[4]",
    "smoe.moe.shared_expert=add",
    "smoe.moe.shared_expert=cmr",
    "smoe.moe.stacked=true",
    "smoe.moe.norm=released",
    "smoe.moe.every=1",
    "smoe.model.activation=swiglu",
    "smoe.model.encoder_layers=5",
]


@pytest.mark.parametrize("system", SYSTEMS)
def test_modules_add_up_to_the_parameters_that_a_plan_counts(system: str) -> None:
    """Kind by kind, what modules say of themselves is what the plan counts on the meta device."""
    run = load_run(CONFIGS / "m4.json", [*SMALL, system])
    plan = make_plan(run, vocab_size=100)
    own = cost_of(run, 100).total.parameters
    assert {**dict.fromkeys(KINDS, 0), **own, "total": sum(own.values())} == plan.parameters
    if run.smoe.moe.is_dense:
        work = work_of(run, 100)
        assert (work.dense_parameters, work.expert_parameters) == (plan.parameters["total"], 0)


def test_memory_follows_the_backend_that_the_device_leads_to() -> None:
    """In bf16 too experts are lean on a device without fast grouped products; with them, weights are kept once more."""
    run = load_run(CONFIGS / "m15.json", ["extends=engine/h200_bf16_zero1.json"])
    h200, a100, cpu = (
        make_plan(run, accelerator=accelerator)
        for accelerator in (None, Accelerator("cuda", (8, 0)), Accelerator("cpu"))
    )
    assert [plan.expert_backend for plan in (h200, a100, cpu)] == ["grouped", "lean", "lean"]
    assert h200.memory["weights"] == a100.memory["weights"]
    model, rows = run.smoe.model, run.smoe.data.max_tokens / 2 * 2 * h200.expected_requested_capacity
    weights = 2 * (16 + 12) * 2 * model.d_model * model.d_ffn  # strata of 4 and 12: gates see 16, then 12
    rows_and_outputs = 2 * rows * 2 * model.d_model
    normalised = rows / 2 * 2 * model.d_model  # kept by the lean way alone
    more = h200.memory["activations"] - a100.memory["activations"]
    assert more == pytest.approx(6 * (weights + rows_and_outputs - normalised), abs=10)
    assert make_plan(load_run(CONFIGS / "m15.json", ["smoe.moe.strata=[]"])).expert_backend == "none"


def test_flops_that_no_table_publishes_are_the_modules_own() -> None:
    run = load_run(CONFIGS / "m4.json", [*SMALL, "smoe.moe.strata=[2,2]", "smoe.model.activation=gelu"])
    plan = make_plan(run, vocab_size=100)
    per_ffn, width = 2 * 2 * 64 * 128, 64
    attentions = 2 * (4 + 8) * 2 * width**2  # two layers on each side, two attentions in the decoder's
    assert plan.dense_flops == "own"
    assert plan.ffns_per_token == 3
    assert plan.flops_per_token == attentions + 2 * per_ffn + 2 * 3 * per_ffn + 2 * width * 100
