"""Experts of different width: their sizes, the loop over tokens, what they cost, and the loss that prices width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from smoe_ds.config import load_run
from smoe_ds.config.block import BlockSettings
from smoe_ds.config.expert_widths import widths_of
from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.errors import ConfigError
from smoe_ds.moe import StratifiedMoE, load_balancing_loss
from smoe_ds.moe.block_cost import BlockSizes, stratified_block
from smoe_ds.moe.cost import Storage
from smoe_ds.moe.losses import auxiliary_losses, p_penalty_loss
from smoe_ds.planning.plan import make_plan
from smoe_ds.planning.work import work_of
from tests.helpers.counted import counted_bytes, counted_flops
from tests.helpers.environment import ROOT
from tests.helpers.layers import add_noise, noisy_layer
from tests.helpers.naive_gate import naive_logits, naive_softmax, naive_top_k
from tests.helpers.router_cases import D, assert_equals_loop

F = 16
RATIOS = {4: [1, 1, 2, 4], 5: [1, 2, 3, 1, 3]}


def layer_of(strata: Sequence[int], **settings: Any) -> StratifiedMoE:
    return noisy_layer(D, F, strata, expert_widths=RATIOS[sum(strata)], **settings)


@pytest.mark.parametrize(
    ("ratios", "d_ffn", "expected"),
    [
        (range(9, 24, 2), 4096, (2304, 2816, 3328, 3840, 4352, 4864, 5376, 5888)),  # the paper's
        ([1, 1, 1, 1, 2, 2, 4, 4], 64, (32, 32, 32, 32, 64, 64, 128, 128)),
        ([1, 1, 1], 8, (8, 8, 8)),
        ([1, 1, 2], 16, (16, 8, 24)),  # 12, 12, 24: what is missing goes to the first of those that lost as much
        ([0.5, 1.5], 16, (8, 24)),
    ],
    ids=str,
)
def test_widths(ratios: Sequence[float], d_ffn: int, expected: tuple[int, ...]) -> None:
    assert widths_of(list(ratios), d_ffn) == expected


@given(st.lists(st.floats(0.5, 4), min_size=1, max_size=16), st.integers(8, 64))
def test_widths_add_up_and_follow_the_ratios(ratios: list[float], eighths: int) -> None:
    widths = widths_of(ratios, 8 * eighths)
    assert sum(widths) == 8 * eighths * len(ratios)
    for width, ratio in zip(widths, ratios, strict=True):
        assert width % 8 == 0
        assert abs(width - ratio / sum(ratios) * sum(widths)) < 8


@pytest.mark.parametrize("backend", ["auto", "loop", "lean"])
@pytest.mark.parametrize("strata", [[5], [2, 3], [1, 2, 2]], ids=str)
@pytest.mark.parametrize("router", ["top_k", "top_p"])
def test_equals_the_loop(router: str, strata: list[int], backend: str) -> None:
    settings: dict[str, Any] = {"second_expert": "argmax", "combine_weights": "before_drop"}
    if router == "top_p":  # that takes two of any gate
        chosen = {"kind": "top_p", "threshold": 1.1, "max_experts": 2, "combine_weights": "before_drop"}
        settings = {"router": chosen}
    layer = StratifiedMoE(
        D, F, strata, expert_widths=RATIOS[5], capacity_factor=1.0, expert_backend=backend, seed=3, **settings
    ).double()
    add_noise(layer, 0.3)
    assert [expert.w1.shape[0] for expert in layer.experts.values()] == [8, 16, 24, 8, 24]
    for training in (True, False):
        assert_equals_loop(layer.train(training), naive_top_k(layer))


def test_the_penalty_by_its_formula() -> None:
    """One stratum after the other, one token at a time."""
    layer = layer_of([2, 3], capacity_factor=None)
    x = torch.randn(30, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    _, stats = layer(x)
    weights, expected = layer.state_dict(keep_vars=True), torch.zeros((), dtype=torch.float64)
    stratum_T = [0] * 30
    x_T = list(x)
    widths = [8, 16, 24, 8, 24]
    for i, first in enumerate((0, 2)):
        here = [t for t in range(30) if stratum_T[t] == i]
        own = widths[first:]
        loads, probs = [0.0] * len(own), [torch.zeros((), dtype=torch.float64)] * len(own)
        for t in here:
            h = torch.nn.functional.layer_norm(x_T[t], (D,), layer.norms[i].weight, layer.norms[i].bias)
            p = naive_softmax(naive_logits(weights, layer.block, i, h))
            best = sorted(range(len(own)), key=lambda e: -float(p[e].detach()))[:2]
            probs = [old + new for old, new in zip(probs, p, strict=True)]
            for e in best:
                loads[e] += own[e] / (sum(own) / len(own)) / len(here)
            whole = sum(p[e] for e in best)
            x_T[t] = x_T[t] + sum(p[e] / whole * layer.experts[str(first + e)](h[None])[0] for e in best)
            stratum_T[t] = 1 if first + best[0] < 2 else 2
        expected = expected + len(own) * sum(load * p for load, p in zip(loads, probs, strict=True)) / len(here) / 2
    torch.testing.assert_close(p_penalty_loss([stats]), expected)
    inputs = list(layer.gates)
    found, wanted = (torch.autograd.grad(loss, inputs) for loss in (p_penalty_loss([stats]), expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("ratios", [[], [2, 2, 2, 2]], ids=str)
def test_with_equal_widths_and_one_choice_it_is_the_switch_loss(ratios: list[float]) -> None:
    layer = noisy_layer(D, F, [2, 2], 1, expert_widths=ratios)
    _, stats = layer(torch.randn(30, D, dtype=torch.float64))
    assert torch.equal(p_penalty_loss([stats]), load_balancing_loss([stats]))


def test_a_layer_with_two_choices_counts_both() -> None:
    _, stats = noisy_layer(D, F, [4], 4)(torch.randn(30, D, dtype=torch.float64))
    torch.testing.assert_close(p_penalty_loss([stats]), torch.tensor(4.0, dtype=torch.float64))


def test_the_penalty_makes_wide_experts_less_probable() -> None:
    layer = layer_of([4], top_k=4)  # all are chosen, so the widths alone make the difference
    x = torch.randn(60, D, dtype=torch.float64)

    def mean_probs() -> Tensor:
        return layer(x)[1].strata[0].prob_sum_E.detach() / 60

    before = mean_probs()
    (grad,) = torch.autograd.grad(p_penalty_loss([layer(x)[1]]), layer.gates[0])
    with torch.no_grad():
        layer.gates[0] -= 0.1 * grad
    widths = torch.tensor(layer.block.widths(F), dtype=torch.float64)
    assert widths @ mean_probs() < widths @ before


def test_the_run_says_which_loss_is_added() -> None:
    model, moe = ModelConfig(), {"strata": [4], "load_balancing_weight": 0.1}
    for kind, name in (("switch", "load_balancing_loss"), ("p_penalty", "p_penalty_loss")):
        (loss,) = auxiliary_losses(MoeConfig(balance_loss=kind, **moe), model)
        assert (loss.name, loss.weight) == (name, 0.1)


@pytest.mark.parametrize("activation", ["relu", "swiglu"])
@pytest.mark.parametrize("backend", ["loop", "lean"])
def test_cost(backend: str, activation: str) -> None:
    """Where all experts get about as many rows, which a plan assumes."""
    d_model, d_ffn, tokens, strata = 128, 192, 768, [2, 3]
    torch.manual_seed(0)
    settings = {"expert_widths": RATIOS[5], "capacity_factor": None}
    layer = StratifiedMoE(d_model, d_ffn, strata, activation=activation, expert_backend=backend, **settings)
    for gate in layer.gates:
        torch.nn.init.orthogonal_(gate)
    sizes = BlockSizes(d_model, d_ffn, BlockSettings(strata=strata, **settings), activation=activation, backend=backend)
    cost = stratified_block(sizes, sizes.loads(tokens), Storage())
    assert sum(cost.parameters.values()) == sum(p.numel() for p in layer.parameters())
    assert cost.parameters["experts"] == sizes.parameters_on(0)
    x = torch.randn(tokens, d_model, requires_grad=True)
    kept, _ = counted_bytes(layer, lambda: layer(x * 1))
    assert cost.saved_bytes == pytest.approx(kept, rel=0.1)
    flops = counted_flops(lambda: layer.eval()(x.detach()))
    assert cost.flops_of() == pytest.approx(flops, rel=0.1)
    narrow_first = BlockSettings(strata=strata, capacity_factor=None)
    equal = BlockSizes(d_model, d_ffn, narrow_first, activation=activation, backend=backend)
    assert stratified_block(equal, equal.loads(tokens)).flops_of() != pytest.approx(flops, rel=0.02)


def test_a_plan_counts_the_rank_with_most() -> None:
    changes = ["smoe.moe.strata=[4]", "smoe.moe.layers={}", "smoe.moe.ep_size=2", "zero_optimization.stage=0"]
    run = load_run(ROOT / "ds_configs" / "quickstart.json", [*changes, "smoe.moe.expert_widths=[1,3,1,3]"])
    model, found = run.smoe.model, make_plan(run, vocab_size=100)
    wide, narrow = 3 * model.d_ffn // 2, model.d_ffn // 2

    def of(width: int) -> int:
        return 2 * width * model.d_model + width + model.d_model

    experts = 2 * (2 * of(wide) + 2 * of(narrow))
    assert found.parameters["experts"] == experts
    assert found.parameters_per_device == found.parameters["total"] - experts + 2 * 2 * of(wide)
    assert found.expert_backend == "loop"
    with pytest.raises(ConfigError, match="expert_widths makes experts differ; the time of a step is predicted for"):
        work_of(run, 100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"expert_widths": [1, 2]}, r"expert_widths: has 2 ratios, but strata \[4\] 4 experts; give one for each"),
        ({"expert_widths": [1, 2, 1, 0]}, r"expert_widths"),
        ({"expert_widths": [1, 1, 1, 99]}, r"expert_widths: ratio 1 of expert 0 leaves it no width at d_ffn 16"),
        ({"expert_widths": [1, 1, 1, 2], "d_ffn": 9}, r"36 in all, which is no multiple of 8; make d_ffn one"),
        ({"expert_widths": [1, 1, 1, 2], "expert_backend": "grouped"}, "grouped needs experts of one width"),
        ({"expert_widths": [1, 1, 1, 2], "expert": lambda: torch.nn.Linear(D, D)}, "experts of your own have"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_work_is_refused(settings: dict[str, Any], message: str) -> None:
    sizes = {"d_ffn": F, **settings}
    with pytest.raises(ValueError, match=message):
        StratifiedMoE(D, strata=[4], **sizes)


def test_a_run_is_refused_before_it_starts() -> None:
    path, widths = ROOT / "ds_configs" / "quickstart.json", "smoe.moe.expert_widths=[1,1,3,3,1,2,3,2]"
    with pytest.raises(ConfigError, match=r"expert_widths: .* different widths, so ZeRO's buckets .* every 2 ratios"):
        load_run(path, [widths, "zero_optimization.stage=1"])
    load_run(path, ["smoe.moe.expert_widths=[1,1,3,3,1,1,2,2]", "zero_optimization.stage=1"])
    load_run(path, [widths, "zero_optimization.stage=0"])
    load_run(path, [widths, "zero_optimization.stage=1", "smoe.moe.ep_size=1"])
    with pytest.raises(ConfigError, match=r"expert_widths: encoder.layers.1.ffn: 6 experts of mean width d_ffn 33"):
        load_run(path, ["smoe.moe.expert_widths=[1,1,1,1,1,2]", "smoe.moe.strata=[3,3]", "smoe.model.d_ffn=33"])
    assert BlockSettings(strata=[2], expert_widths=[1, 2]).pruning_problem() == (
        "experts of different width cannot be removed"
    )
