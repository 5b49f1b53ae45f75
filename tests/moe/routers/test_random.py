"""Stochastic experts against the loop over tokens, and what is drawn."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.routing import RoutingContext
from tests.helpers.naive_block import NaiveRouter, Preference
from tests.helpers.router_cases import SENTENCES, D, assert_equals_loop, router_layer, sentences

ONE = torch.ones((), dtype=torch.float64)


def naive(layer: StratifiedMoE) -> NaiveRouter:
    settings = layer.block.router

    def route(stratum: int, positions: list[int], tokens: list[Tensor]) -> list[Preference]:
        visible = sum(layer.block.strata[stratum:])
        if layer.training:
            scores = torch.rand(visible).tolist()
            expert = scores.index(max(scores))
        elif settings.at_evaluation == "mean":
            return [(0, [(e, ONE / visible) for e in range(visible)]) for _ in positions]
        else:
            expert = layer.mixtures[stratum].router.fixed_expert
        return [(expert, [(expert, ONE)]) for _ in positions]

    return route


@pytest.mark.parametrize("backend", ["loop", "lean"])
@pytest.mark.parametrize("strata", [[4], [2, 3], [1, 2, 2]], ids=str)
@pytest.mark.parametrize("at_evaluation", ["mean", "fixed"])
def test_equals_the_loop(at_evaluation: str, strata: list[int], backend: str) -> None:
    layer = router_layer(strata, {"kind": "random", "at_evaluation": at_evaluation}, expert_backend=backend)
    for noise_seed in range(3):
        assert_equals_loop(layer.train(), naive(layer), noise_seed=noise_seed)
    assert_equals_loop(layer.eval(), naive(layer))


def test_all_tokens_take_one_visible_expert_and_each_is_as_likely() -> None:
    layer = router_layer([2, 3], {"kind": "random"})
    x, ids, padding = sentences()
    real = int((~padding).sum())
    torch.manual_seed(0)
    drawn = [Counter[int](), Counter[int]()]
    for _ in range(600):
        with torch.no_grad():
            _, stats = layer(x, padding, None, ids)
        assert sum(stratum.num_dropped for stratum in stats.strata) == 0
        for counter, stratum in zip(drawn, stats.strata, strict=True):
            rows = stratum.requested_KE.sum(0).tolist()
            assert sorted(rows)[:-1] == [0] * (len(rows) - 1)
            if stratum.num_tokens:
                assert sum(rows) == real
                counter[rows.index(real)] += 1
    assert sum(drawn[0].values()) == 600
    assert all(90 <= drawn[0][e] <= 150 for e in range(5)), drawn  # 120 expected, standard deviation 10
    assert 190 <= sum(drawn[1].values()) <= 290  # 240 expected: the first draw was one of the first stratum's two
    assert all(0.25 <= drawn[1][e] / sum(drawn[1].values()) <= 0.42 for e in range(3)), drawn


def test_the_mean_is_the_mean_of_the_experts() -> None:
    layer = router_layer([4], {"kind": "random"}).eval()
    x, ids, padding = sentences()
    with torch.no_grad():
        mean, _ = layer(x, padding, None, ids)
        h = layer.norms[0](x)
        expected = x + sum(expert(h) for expert in layer.experts.values()) / 4
    torch.testing.assert_close(mean[~padding], expected[~padding], rtol=1e-12, atol=1e-12)


def test_the_fixed_expert_follows_the_name_alone() -> None:
    def fixed(**settings: object) -> list[int]:
        layer = StratifiedMoE(4, 4, [7, 7, 7], router={"kind": "random"}, **settings)
        return [mixture.router.fixed_expert for mixture in layer.mixtures]

    names = [fixed(name=name) for name in ("a", "b", "c", "d")]
    assert fixed(name="a", seed=5) == names[0]
    assert len(set(map(tuple, names))) == 4
    assert all(0 <= e < visible for of_name in names for e, visible in zip(of_name, (21, 14, 7), strict=True))


def test_where_gates_are_set_aside_it_draws_among_the_experts_of_its_rank() -> None:
    layer = router_layer([4], {"kind": "random"})
    router = layer.mixtures[0].router
    context = RoutingContext(training=True, forbidden_E=torch.tensor([True, False, True, False]))
    h_TD = torch.zeros(2, D, dtype=torch.float64)
    assert {int(expert) for _ in range(60) for expert in router(h_TD, None, context).expert_TK} == {1, 3}


def test_capacity_is_refused_beside_it() -> None:
    with pytest.raises(ValueError, match="capacity_factor: the router random does not use it; leave it out"):
        StratifiedMoE(D, SENTENCES, [4], router={"kind": "random"}, capacity_factor=1.0)
