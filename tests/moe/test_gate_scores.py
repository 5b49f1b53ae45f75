"""Cosine scores against their formula one token at a time, and their probabilities for the balance loss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.routers import Hash
from smoe_ds.moe import StratifiedMoE, load_balancing_loss
from smoe_ds.moe.gate_scores import FIRST_TEMPERATURE
from tests.helpers.naive_gate import naive_cosines, naive_softmax, naive_top_k
from tests.helpers.router_cases import D, F, assert_equals_loop, router_layer

COSINE = {"gate_scores": "cosine", "second_expert": "argmax"}


@pytest.mark.parametrize("backend", ["loop", "lean"])
@pytest.mark.parametrize("width", [None, 3])
@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("strata", [[5], [2, 3], [2, 2, 3]], ids=str)
def test_equals_the_loop(strata: list[int], top_k: int, width: int | None, backend: str) -> None:
    settings = {"top_k": top_k, "gate_width": width, "capacity_factor": 1.0, "combine_weights": "before_drop"}
    layer = router_layer(strata, {"kind": "top_k"}, expert_backend=backend, **settings, **COSINE)
    for training in (True, False):
        assert_equals_loop(layer.train(training), naive_top_k(layer))


def test_scores_do_not_depend_on_lengths() -> None:
    layer = router_layer([4], {"kind": "top_k"}, **COSINE)
    cosine, h = layer.mixtures[0].router.cosine, torch.randn(20, D, dtype=torch.float64)
    before = cosine(h, layer.gates[0])
    assert before.abs().max() <= 1 + 1e-12
    with torch.no_grad():
        cosine.directions *= torch.rand(4, 1, dtype=torch.float64) + 0.1
    torch.testing.assert_close(cosine(3 * h, 2 * layer.gates[0]), before, rtol=1e-12, atol=1e-12)


def test_a_token_of_zeros_has_finite_gradients() -> None:
    layer = router_layer([4], {"kind": "top_k"}, **COSINE)
    cosine, h = layer.mixtures[0].router.cosine, torch.zeros(2, D, dtype=torch.float64, requires_grad=True)
    scores = cosine(h, layer.gates[0])
    assert (scores == 0).all()
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(scores.sum(), [h, cosine.directions]))


def test_the_balance_loss_keeps_the_first_temperature() -> None:
    layer = router_layer([4], {"kind": "top_k"}, **COSINE)
    x = torch.randn(20, D, dtype=torch.float64)
    cosine = layer.mixtures[0].router.cosine
    h = torch.nn.functional.layer_norm(x, (D,), layer.norms[0].weight, layer.norms[0].bias)
    cosines = [naive_cosines(layer.gates[0], cosine.directions, one) for one in h]
    mean = torch.stack([torch.stack(naive_softmax([s / FIRST_TEMPERATURE for s in of])) for of in cosines]).mean(0)
    _, stats = layer(x)
    loss = load_balancing_loss([stats])
    torch.testing.assert_close(loss, 4 * (stats.strata[0].first_choice_E / 20 * mean).sum())
    assert torch.autograd.grad(loss, cosine.log_temperature, allow_unused=True) == (None,)


def test_the_temperature_starts_at_the_papers_and_is_learnt() -> None:
    layer = StratifiedMoE(D, F, [4], expert_init="xavier", **COSINE)
    temperature = layer.mixtures[0].router.cosine.log_temperature
    assert float(temperature.exp()) == pytest.approx(0.3)
    layer(torch.randn(20, D))[0].square().sum().backward()
    assert float(temperature.grad) != 0


def test_widths() -> None:
    layer = StratifiedMoE(D, F, [2, 4, 2], **COSINE)
    assert [tuple(gate.shape) for gate in layer.gates] == [(4, D), (3, D), (2, D)]
    assert [tuple(m.router.cosine.directions.shape) for m in layer.mixtures] == [(8, 4), (6, 3), (2, 2)]
    assert StratifiedMoE(D, F, [4], gate_width=5, **COSINE).gates[0].shape == (5, D)


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ValueError, match="gate_width: only cosine scores use it; leave it out"):
        StratifiedMoE(D, F, [4], gate_width=4)
    with pytest.raises(ValueError, match="gate_scores: the router hash does not use it"):
        BlockSettings(strata=[4], router=Hash(), top_k=2, gate_scores="cosine")
    problem = BlockSettings(gate_scores="cosine").pruning_problem()
    assert problem == "experts of a gate with cosine scores cannot be removed"


def test_weights_follow_the_name_and_the_seed() -> None:
    def directions(**settings: object) -> list[Tensor]:
        layer = StratifiedMoE(D, F, [2, 2], **COSINE, **settings)
        return [mixture.router.cosine.directions.detach() for mixture in layer.mixtures]

    assert all(torch.equal(a, b) for a, b in zip(directions(name="a"), directions(name="a"), strict=True))
    assert not torch.equal(directions(name="a")[0], directions(name="b")[0])
    assert not torch.equal(directions(seed=1)[0], directions(seed=2)[0])
    assert not torch.equal(directions()[0][:2], directions()[1])
