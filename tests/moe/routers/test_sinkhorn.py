"""The Sinkhorn router against the loop over tokens, which scales the table of tokens and experts entry by entry."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.routers.sinkhorn import column_factors
from smoe_ds.moe.routing import RoutingContext
from tests.helpers.naive_block import NaiveRouter, Preference
from tests.helpers.router_cases import D, assert_equals_loop, router_layer, sentences


def naive_sinkhorn(scores: list[list[float]], rounds: int) -> list[list[float]]:
    """The table of tokens and experts whose rows and columns were scaled in turn."""
    table = [[math.exp(score) for score in row] for row in scores]
    share = len(table) / len(table[0])
    for _ in range(rounds):
        table = [[entry / sum(row) for entry in row] for row in table]
        columns = [sum(row[e] for row in table) for e in range(len(table[0]))]
        table = [[entry * share / columns[e] for e, entry in enumerate(row)] for row in table]
    return table


def naive(layer: StratifiedMoE, choices: int, rounds: int) -> NaiveRouter:
    def route(stratum: int, positions: list[int], tokens: list[Tensor]) -> list[Preference]:
        if not tokens:
            return []
        scores = [layer.gates[stratum] @ h for h in tokens]
        table = [score.tolist() for score in scores]
        if layer.training and len(tokens) > 1:
            table = naive_sinkhorn(table, rounds)
        answers = []
        for row, score in zip(table, scores, strict=True):
            best = sorted(range(len(row)), key=lambda e: -row[e])[:choices]
            weights = torch.sigmoid(score) if choices == 1 else torch.softmax(score, 0)
            answers.append((best[0], [(e, weights[e]) for e in best]))
        return answers

    return route


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("backend", ["loop", "lean"])
@pytest.mark.parametrize(("choices", "rounds"), [(1, 20), (2, 3)])
@pytest.mark.parametrize("strata", [[4], [2, 3], [1, 2, 2]], ids=str)
def test_equals_the_loop(strata: list[int], choices: int, rounds: int, backend: str, training: bool) -> None:
    router = {"kind": "sinkhorn", "rounds": rounds}
    layer = router_layer(strata, router, top_k=choices, expert_backend=backend, capacity_factor=None).train(training)
    for seed in range(3):
        assert_equals_loop(layer, naive(layer, choices, rounds), seed)


def test_loads_are_more_even_in_training() -> None:
    layer = router_layer([6], {"kind": "sinkhorn", "rounds": 50}, top_k=1, capacity_factor=None)
    layer.gates[0].data[0] *= 20  # most tokens like or dislike one expert much more than the others
    x, ids, padding = sentences()
    busiest = {}
    for training in (True, False):
        _, stats = layer.train(training)(x, padding, None, ids)
        wanted_E = stats.strata[0].requested_KE.sum(0)
        busiest[training] = float(wanted_E.max() / wanted_E.to(torch.float64).mean())
    assert busiest[False] > 2
    assert busiest[True] < 1.9


def test_the_table_becomes_even_and_an_expert_that_must_not_be_chosen_stays_out() -> None:
    generator = torch.Generator().manual_seed(1)
    scores_TE = 3 * torch.randn(50, 5, generator=generator, dtype=torch.float64)
    scores_TE[:, 2] = -torch.inf
    table_TE = torch.softmax(scores_TE + column_factors(scores_TE, 200), dim=1)
    expected_E = torch.tensor([12.5, 12.5, 0.0, 12.5, 12.5], dtype=torch.float64)
    torch.testing.assert_close(table_TE.sum(0), expected_E, rtol=1e-6, atol=1e-9)


def test_capacity_drops_the_last_tokens_of_a_full_expert() -> None:
    layer = router_layer([4], {"kind": "sinkhorn", "rounds": 1}, capacity_factor=1.0).train()
    x, ids, padding = sentences()
    _, stats = layer(x, padding, None, ids)
    stratum = stats.strata[0]
    room = math.ceil(stratum.num_tokens / 4)
    assert stratum.num_dropped == (stratum.requested_KE.sum(0) - room).clamp(min=0).sum() > 0


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("choices", [1, 2])
def test_an_expert_that_must_not_be_chosen_is_not(choices: int, training: bool) -> None:
    layer = router_layer([5], {"kind": "sinkhorn"}, top_k=choices, capacity_factor=None)
    h_TD = torch.randn(40, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    h_TD += 5 * layer.gates[0][3].detach()  # all tokens would like the one that is forbidden
    router, gate_ED = layer.mixtures[0].router, layer.gates[0]
    forbidden_E = torch.tensor([False, False, False, True, False])
    routing = router(h_TD, gate_ED, RoutingContext(training=training, forbidden_E=forbidden_E))
    free = router(h_TD, gate_ED, RoutingContext(training=training))
    assert (free.expert_TK == 3).any() and not (routing.expert_TK == 3).any()
    kept_TE = (h_TD @ gate_ED.T).masked_fill(forbidden_E, -torch.inf)
    probs_TE = torch.sigmoid(kept_TE) if choices == 1 else torch.softmax(kept_TE, 1)
    torch.testing.assert_close(routing.weights_TK, probs_TE.gather(1, routing.expert_TK))


def test_a_single_token_takes_its_best_expert() -> None:
    layer = router_layer([6], {"kind": "sinkhorn"}, top_k=1, capacity_factor=None).train()
    for seed in range(20):
        h_1D = torch.randn(1, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        routing = layer.mixtures[0].router(h_1D, layer.gates[0], RoutingContext(training=True))
        assert routing.expert_TK.item() == (h_1D @ layer.gates[0].T).argmax()
