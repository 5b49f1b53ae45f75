"""Adapters and chains of tensors as experts, against the loop over tokens."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from smoe_ds.config.experts import EXPERTS
from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.model.transformer import Transformer
from smoe_ds.model.transformer_cost import MicroBatch, transformer
from smoe_ds.moe import StratifiedMoE
from smoe_ds.weights.pruned import prune_weights, renumbered
from tests.helpers.forced_decoding import assert_steps_are_forced_decoding
from tests.helpers.layers import add_noise
from tests.helpers.naive_block import NaiveExpert, NaiveRouter, Preference, Weights, naive_ffn
from tests.helpers.naive_chain import naive_matrix
from tests.helpers.router_cases import D, F, assert_equals_loop, router_layer, sentences

KINDS: dict[str, dict[str, Any]] = {
    "adapters": {"kind": "adapters", "rank": 3, "scale": 0.7, "dropout": 0.0},
    "mpo": {"kind": "mpo"},
    "mpo_short": {"kind": "mpo", "bond": 2},
}
MODEL = ModelConfig(
    d_model=8, d_ffn=12, num_heads=2, encoder_layers=2, decoder_layers=2, dropout=0.0, attention_dropout=0.0
)


def layer_of(kind: str, strata: list[int], **settings: Any) -> StratifiedMoE:
    return router_layer(strata, {"kind": "top_k"}, experts=KINDS[kind], second_expert="argmax", **settings)


def naive_top_2(layer: StratifiedMoE) -> NaiveRouter:
    """Weights over all choices: ``before_drop``."""

    def route(stratum: int, positions: list[int], tokens: list[Tensor]) -> list[Preference]:
        preferences = []
        for h in tokens:
            probs = torch.softmax(layer.gates[stratum] @ h, 0)
            best = sorted(range(len(probs)), key=lambda e: -probs[e].item())[:2]
            total = sum(probs[e] for e in best)
            preferences.append((best[0], [(e, probs[e] / total) for e in best]))
        return preferences

    return route


def naive_adapter(h: Tensor, weights: Weights, name: str) -> Tensor:
    u = naive_ffn(h, weights, "common")
    inner = weights[f"{name}.down"] @ u
    return u + 0.7 * weights[f"{name}.up"] @ (inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2))))


def naive_chain_expert() -> NaiveExpert:
    """Each matrix is made once, as loops take long."""
    made: dict[tuple[str, str], Tensor] = {}

    def matrix(weights: Weights, name: str, which: str) -> Tensor:
        if (name, which) not in made:
            chain = [weights[f"common.{which}" if m == 3 else f"{name}.{which}_{m}"] for m in range(1, 6)]
            made[name, which] = naive_matrix(chain)
        return made[name, which]

    def through(h: Tensor, weights: Weights, name: str) -> Tensor:
        hidden = (matrix(weights, name, "w1") @ h + weights["common.b1"]).clamp(min=0)
        return matrix(weights, name, "w2") @ hidden + weights["common.b2"]

    return through


TWINS = {"adapters": lambda: naive_adapter, "mpo": naive_chain_expert, "mpo_short": naive_chain_expert}


@pytest.mark.parametrize("strata", [[4], [2, 3], [1, 2, 2]], ids=str)
@pytest.mark.parametrize(
    ("kind", "backend"),
    [("adapters", "auto"), ("mpo", "loop"), ("mpo", "lean"), ("mpo_short", "loop"), ("mpo_short", "lean")],
)
def test_equals_the_loop(kind: str, backend: str, strata: list[int]) -> None:
    settings = {"capacity_factor": 0.8, "combine_weights": "before_drop", "expert_backend": backend}
    layer = layer_of(kind, strata, top_k=min(2, strata[-1]), **settings)
    for training in (True, False):
        assert_equals_loop(layer.train(training), naive_top_2(layer), expert=TWINS[kind]())


def test_the_common_network_is_computed_once_a_token() -> None:
    layer, rows = layer_of("adapters", [2, 2]).eval(), []
    layer.common.register_forward_hook(lambda _, inputs, output: rows.append(inputs[0].shape[0]))
    x, ids, padding = sentences()
    _, stats = layer(x, padding, None, ids)
    assert rows == [stratum.num_tokens for stratum in stats.strata]


def test_matrices_are_made_once_a_forward_pass() -> None:
    layer, calls = layer_of("mpo", [2, 2, 2]), []
    ready = layer.common.ready
    layer.common.ready = lambda experts: calls.append(len(experts)) or ready(experts)
    layer(sentences()[0])
    assert calls == [6]


def test_a_new_adapter_adds_nothing() -> None:
    settings = {"combine_weights": "before_drop", "expert_init": "xavier"}
    layer = StratifiedMoE(D, F, [4], experts=KINDS["adapters"] | {"dropout": 0.9}, **settings).double()
    x = sentences()[0]
    expected = x + layer.common(layer.norms[0](x))
    assert not torch.allclose(expected, x)
    torch.testing.assert_close(layer.eval()(x)[0], expected, rtol=1e-12, atol=1e-12)
    assert not torch.equal(layer.experts["0"].down, layer.experts["1"].down)


def test_dropout_of_adapters_is_their_own() -> None:
    layer = layer_of("adapters", [4], capacity_factor=None)
    layer.block.experts.__dict__["dropout"] = 0.5
    x = sentences()[0]
    assert not torch.equal(layer(x)[0], layer(x)[0])
    assert torch.equal(layer.eval()(x)[0], layer(x)[0])


@pytest.mark.parametrize("how", ["xavier", "linear", "switch"])
@pytest.mark.parametrize("bond", [None, 12])
def test_new_chains_vary_as_matrices_do(how: str, bond: int | None) -> None:
    """The norm of a matrix is that of one drawn at once; experts differ, and so do seeds."""
    chains = StratifiedMoE(32, 64, [2], experts={"kind": "mpo", "bond": bond}, expert_init=how)
    plain = StratifiedMoE(32, 64, [2], expert_init=how)
    made, drawn = chains.common.ready(chains.experts), plain.experts["0"]
    for name in ("w1", "w2"):
        expected = getattr(drawn, name).norm().item()
        assert getattr(made["0"], name).norm().item() == pytest.approx(expected, rel=0.05)
    assert (made["0"].w1 - made["1"].w1).norm() > made["0"].w1.norm()
    assert bool(made["0"].b1.abs().max() > 0) is (how == "linear")
    other = StratifiedMoE(32, 64, [2], experts={"kind": "mpo", "bond": bond}, expert_init=how, seed=2)
    assert not torch.equal(other.common.w1, chains.common.w1)
    assert not torch.equal(other.experts["0"].w1_2, chains.experts["0"].w1_2)


@pytest.mark.parametrize("activation", ["relu", "swiglu"])
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_that_start_at_zero_are_the_identity_and_learn(kind: str, activation: str) -> None:
    layer = StratifiedMoE(D, F, [2, 2], experts=KINDS[kind], expert_init="zero", activation=activation)
    x = sentences()[0].float()
    y, _ = layer(x)
    assert torch.equal(y, x)
    y.sin().sum().backward()
    assert layer.common.w2.grad.abs().max() > 0
    assert layer.common.w1.abs().max() > 0 and layer.common.b1.abs().max() == 0


@pytest.mark.parametrize("activation", ["relu", "gelu", "swiglu"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_counts_the_parameters_of_the_model(kind: str, activation: str) -> None:
    moe = MoeConfig(strata=[3, 3], experts=KINDS[kind], shared_expert="cmr")
    config = MODEL.model_copy(update={"activation": activation})
    planned = transformer(config, moe, 40, MicroBatch(8)).total.parameters
    assert sum(planned.values()) == sum(p.numel() for p in Transformer(config, moe, 40).parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_step_by_step_decoding_is_forced_decoding(kind: str) -> None:
    model = Transformer(MODEL, MoeConfig(strata=[3, 3], experts=KINDS[kind]), 40, seed=2).double().eval()
    add_noise(model, 0.1)
    generator = torch.Generator().manual_seed(4)
    src, tgt = (torch.randint(4, 40, (3, 5), generator=generator) for _ in range(2))
    assert_steps_are_forced_decoding(model, src, tgt)


@pytest.mark.parametrize("kind", KINDS)
def test_no_token_at_all_gives_every_parameter_a_gradient(kind: str) -> None:
    layer = layer_of(kind, [2, 2])
    x = torch.randn(1, 2, D, dtype=torch.float64, requires_grad=True)
    layer(x, torch.ones(1, 2, dtype=torch.bool))[0].sum().backward()
    missing = {name for name, p in layer.named_parameters() if p.grad is None and not name.startswith("gates")}
    assert missing == set()


def test_kinds_are_known_by_name() -> None:
    assert [section.model_fields["kind"].default for section in EXPERTS] == ["ffn", "adapters", "mpo"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"experts": {"kind": "adapters"}, "ep_size": 2, "ep_rank": 0}, "ep_size is 2, but adapters are small"),
        ({"experts": {"kind": "adapters"}, "expert_backend": "grouped"}, "one after the other, so grouped does not"),
        ({"experts": {"kind": "adapters"}, "expert_widths": [1, 1, 1, 3]}, "expert_widths: adapters share one network"),
        ({"experts": {"kind": "mpo"}, "expert_widths": [1, 1, 1, 3]}, "expert_widths: the chains of all experts share"),
        ({"experts": {"kind": "mpo"}, "expert": lambda: torch.nn.Identity()}, "of the kind mpo are built in; leave"),
    ],
    ids=["ranks", "backend", "widths_adapters", "widths_mpo", "custom"],
)
def test_what_cannot_work_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StratifiedMoE(4, 4, [2, 2], **settings)


@pytest.mark.parametrize("kind", KINDS)
def test_without_an_expert_that_nobody_chooses_nothing_changes(kind: str) -> None:
    """Pruning takes its own tensors and its rows of the gates out, and leaves what is common."""
    block, name = layer_of(kind, [3, 2], combine_weights="before_drop").eval(), "encoder.layers.0.ffn"
    x = sentences()[0]
    with torch.no_grad():
        block.norms[0].bias.fill_(1.0)
        block.norms[0].weight.mul_(0.1)
        block.gates[0][1] = -50.0
        expected = block(x)[0]
    removed = {name: [1]}
    weights = {f"{name}.{key}": value for key, value in block.state_dict().items()}
    placements = {name: block.placement}
    left = renumbered(prune_weights(weights, placements, removed), placements, removed)
    smaller = layer_of(kind, [2, 2], combine_weights="before_drop").eval()
    smaller.load_state_dict({key[len(name) + 1 :]: value for key, value in left.items()})
    torch.testing.assert_close(smaller(x)[0], expected, rtol=1e-12, atol=1e-12)
