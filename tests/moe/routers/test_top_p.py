"""Threshold routing against sorting and summing one token at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.routers.top_p import TopP
from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.losses import token_mean_loss
from smoe_ds.moe.routing import RoutingContext
from tests.helpers.layers import add_noise
from tests.helpers.naive_block import NaiveRouter, Preference
from tests.helpers.naive_gate import naive_logits, naive_softmax
from tests.helpers.router_cases import D, F, assert_equals_loop, router_layer, sentences

STRATA = [[5], [2, 3], [1, 2, 3]]


def naive(layer: StratifiedMoE) -> NaiveRouter:
    settings: TopP = layer.block.router
    weights = layer.state_dict(keep_vars=True)

    def route(stratum: int, positions: list[int], tokens: list[Tensor]) -> list[Preference]:
        found: list[Preference] = []
        for h in tokens:
            probs = naive_softmax(naive_logits(weights, layer.block, stratum, h))
            ranking = sorted(range(len(probs)), key=lambda e: -float(probs[e].detach()))
            taken, reached = ranking[:1], float(probs[ranking[0]].detach())
            for expert in ranking[1 : settings.max_experts]:
                if reached >= settings.threshold:
                    break
                taken.append(expert)
                reached += float(probs[expert].detach())
            whole = torch.ones((), dtype=torch.float64)
            if settings.combine_weights != "raw" and settings.max_experts != 1:
                whole = torch.stack([probs[e] for e in taken]).sum()
            found.append((ranking[0], [(e, probs[e] / whole) for e in taken]))
        return found

    return route


@pytest.mark.parametrize("backend", ["loop", "lean"])
@pytest.mark.parametrize("strata", STRATA, ids=str)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"threshold": 0.6, "combine_weights": "before_drop"},
        {"threshold": 0.5, "max_experts": None},
        {"threshold": 0.8, "max_experts": 2, "combine_weights": "before_drop"},
        {"max_experts": 1, "combine_weights": "before_drop"},
        {"threshold": 0.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("scores", ["linear", "cosine"])
def test_equals_the_loop(scores: str, settings: dict[str, Any], strata: list[int], backend: str) -> None:
    router = {"kind": "top_p", **settings}
    layer = router_layer(strata, router, gate_scores=scores, capacity_factor=1.0, expert_backend=backend)
    for training in (True, False):
        assert_equals_loop(layer.train(training), naive(layer))


def test_weights_after_drop_sum_to_one_whatever_the_others_of_the_batch_take() -> None:
    """A token that takes one expert has weight 1, be it that all of its batch take one or not."""
    layer = router_layer([6], {"kind": "top_p", "threshold": 0.5, "combine_weights": "after_drop"}).eval()
    (mixture,) = layer.mixtures
    h = torch.randn(40, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    routing = mixture.router(h, layer.gates[0], RoutingContext())
    taken = routing.chosen_TK.sum(1)
    assert {1, 2} <= set(taken.tolist())
    weights = mixture.router.weights(routing, None)
    torch.testing.assert_close(weights.sum(1), torch.ones(40, dtype=torch.float64))
    alone = mixture.router(h[taken == 1], layer.gates[0], RoutingContext()).first(1)
    assert (mixture.router.weights(alone, None) == 1).all()


def test_threshold_0_is_switch_and_above_1_takes_all() -> None:
    x, ids, padding = sentences()

    def output(router: dict[str, Any], top_k: int) -> Tensor:
        raw = {"combine_weights": "raw", "top_k": top_k} if router["kind"] == "top_k" else {}
        return router_layer([2, 3], router, **raw).eval()(x, padding, None, ids)[0]

    none, everything = ({"kind": "top_p", "threshold": tau, "max_experts": None} for tau in (0.0, 1.1))
    torch.testing.assert_close(output(none, 1), output({"kind": "top_k"}, 1), rtol=1e-12, atol=1e-12)
    layer = router_layer([5], everything).eval()
    _, stats = layer(x, padding, None, ids)
    assert stats.strata[0].requested_KE.sum(0).tolist() == [int((~padding).sum())] * 5
    stacked = router_layer([3], {"kind": "top_k"}, combine_weights="raw", top_k=3).eval()
    same = router_layer([3], everything).eval()
    torch.testing.assert_close(same(x)[0], stacked(x)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "visible", "expected"),
    [
        ({"max_experts": None}, 64, 58),
        ({}, 64, 4),
        ({}, 3, 3),
        ({"threshold": 0.0}, 8, 1),
        ({"threshold": 0.5, "max_experts": None}, 8, 4),
        ({"threshold": 2.0, "max_experts": None}, 8, 8),
        ({"threshold": 0.9, "max_experts": 1}, 8, 1),
    ],
    ids=str,
)
def test_a_plan_counts_the_rows_of_an_even_gate(settings: dict[str, Any], visible: int, expected: int) -> None:
    """The gate's weight is 0 here, so the layer counts them too."""
    assert TopP(**settings).mean_choices(BlockSettings(), visible) == expected
    layer = StratifiedMoE(D, F, [visible], router=TopP(**settings), capacity_factor=None).double()
    torch.nn.init.zeros_(layer.gates[0])
    _, stats = layer(torch.randn(7, D, dtype=torch.float64))
    assert stats.strata[0].requested_KE.sum() == 7 * expected


def test_the_entropy_loss_is_the_mean_entropy_and_makes_gates_decided() -> None:
    layer = router_layer([4], {"kind": "top_p", "entropy_weight": 0.03})
    x = torch.randn(30, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    loss = token_mean_loss([layer(x)[1]], "gate_entropy_loss")
    weights = layer.state_dict(keep_vars=True)
    h = torch.nn.functional.layer_norm(x, (D,), layer.norms[0].weight, layer.norms[0].bias)
    probs = [torch.stack(naive_softmax(naive_logits(weights, layer.block, 0, one))) for one in h]
    expected = -sum((p * p.log()).sum() for p in probs) / len(probs)
    torch.testing.assert_close(loss, expected)
    found, wanted = (torch.autograd.grad(value, layer.gates[0])[0] for value in (loss, expected))
    torch.testing.assert_close(found, wanted)
    with torch.no_grad():
        layer.gates[0] -= 0.1 * found
    assert token_mean_loss([layer(x)[1]], "gate_entropy_loss") < loss


def test_without_a_weight_there_is_no_entropy_loss() -> None:
    _, stats = router_layer([4], {"kind": "top_p"})(torch.randn(3, D, dtype=torch.float64))
    assert not stats.strata[0].sums


def test_tokens_that_stay_on_their_rank_take_no_other_expert() -> None:
    """Gating dropout: with a threshold above 1 a token takes all experts of its rank, and none beside them."""
    router = {"kind": "top_p", "threshold": 1.5, "max_experts": None, "entropy_weight": 0.1}
    layer = StratifiedMoE(D, F, [6], router=router, ep_size=2, ep_rank=1).double()
    add_noise(layer, 0.3)
    (mixture,) = layer.mixtures
    h = torch.randn(20, D, dtype=torch.float64)
    routing = mixture.router(h, layer.gates[0], RoutingContext(True, forbidden_E=mixture.is_remote))
    taken = routing.expert_TK[routing.chosen_TK]
    assert set(taken.tolist()) == {1, 3, 5}
    assert routing.chosen_TK.sum() == 60
    grads = torch.autograd.grad(routing.sums.losses["gate_entropy_loss"], layer.gates[0])
    assert torch.isfinite(grads[0]).all()


def test_who_is_more_probable_goes_first() -> None:
    layer = router_layer([2], {"kind": "top_p", "threshold": 0.0}, capacity_order="probability", capacity_factor=1.0)
    (mixture,) = layer.mixtures
    h = torch.randn(9, D, dtype=torch.float64)
    routing = mixture.router(h, layer.gates[0], RoutingContext(True))
    assert torch.equal(routing.priority_T, torch.softmax(h @ layer.gates[0].T, 1).amax(1))


@pytest.mark.parametrize("key", ["top_k", "second_expert", "combine_weights", "bias_balancing"])
def test_what_it_does_not_use_is_refused(key: str) -> None:
    value = {"top_k": 1, "second_expert": "argmax", "combine_weights": "raw", "bias_balancing": 0.1}[key]
    with pytest.raises(ValueError, match=f"{key}: the router top_p does not use it; leave it out"):
        StratifiedMoE(D, F, [4], router={"kind": "top_p"}, **{key: value})
