"""BASE layers against the loop over tokens, which auctions bid by bid."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from smoe_ds.moe import StratifiedMoE
from tests.helpers.naive_block import NaiveRouter, Preference
from tests.helpers.router_cases import assert_equals_loop, router_layer, sentences


def naive_auction(scores: list[list[float]]) -> list[int]:
    """The expert of each token, fewer than 50 tokens; all without a place bid at once."""
    num_experts = len(scores[0])
    if num_experts == 1:
        return [0] * len(scores)
    lowest = min(map(min, scores))
    span = max(map(max, scores)) - lowest
    step = max(span / 50, 1e-4)
    share = math.ceil(len(scores) / num_experts)
    prices = [0.0] * num_experts
    places: list[list[tuple[float, int]]] = [[] for _ in range(num_experts)]  # (minus bid, token), best first
    while waiting := sorted(set(range(len(scores))) - {token for place in places for _, token in place}):
        bids = []
        for token in waiting:
            values = sorted(((scores[token][e] - lowest - prices[e], -e) for e in range(num_experts)), reverse=True)
            (best, expert), (second, _) = values[:2]
            bids.append((-expert, prices[-expert] + best - max(second, best - span) + step, token))
        for expert, bid, token in bids:
            places[expert].append((-bid, token))
        for expert in range(num_experts):
            places[expert] = sorted(places[expert])[:share]
            if len(places[expert]) == share:
                prices[expert] = -places[expert][-1][0]
    found = {token: expert for expert, place in enumerate(places) for _, token in place}
    return [found[token] for token in range(len(scores))]


def naive(layer: StratifiedMoE) -> NaiveRouter:
    def route(stratum: int, positions: list[int], tokens: list[Tensor]) -> list[Preference]:
        if not tokens:
            return []
        scores = [layer.gates[stratum] @ h for h in tokens]
        experts = [int(score.argmax()) for score in scores]
        if layer.training:
            experts = naive_auction([score.tolist() for score in scores])
        return [(e, [(e, torch.sigmoid(score[e]))]) for e, score in zip(experts, scores, strict=True)]

    return route


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("backend", ["loop", "lean"])
@pytest.mark.parametrize("strata", [[4], [2, 3], [1, 2, 2], [3, 1]], ids=str)
def test_equals_the_loop(strata: list[int], backend: str, training: bool) -> None:
    layer = router_layer(strata, {"kind": "base"}, expert_backend=backend).train(training)
    for seed in range(3):
        assert_equals_loop(layer, naive(layer), seed)


def test_training_gives_every_expert_its_share_in_every_stratum_and_drops_nothing() -> None:
    layer = router_layer([3, 3], {"kind": "base"})
    layer.gates[0].data[0] *= 20  # most tokens like or dislike one expert much more than the others
    x, ids, padding = sentences()
    _, stats = layer(x, padding, None, ids)
    _, plain = layer.eval()(x, padding, None, ids)
    assert plain.strata[0].requested_KE.max() > math.ceil(plain.strata[0].num_tokens / 6)
    for stratum in stats.strata:
        wanted_E = stratum.requested_KE.sum(0)
        assert wanted_E.max() == math.ceil(stratum.num_tokens / wanted_E.numel())
        assert wanted_E.sum() == stratum.num_tokens
        assert stratum.num_dropped == 0


def test_gates_that_start_orthogonal() -> None:
    layer = StratifiedMoE(12, 4, [4, 4], router={"kind": "base"}, gate_init="orthogonal", name="a")
    for gate in layer.gates:
        torch.testing.assert_close(gate @ gate.T, 0.01 * torch.eye(len(gate)), rtol=1e-6, atol=1e-8)
    again, other = (
        StratifiedMoE(12, 4, [4, 4], router={"kind": "base"}, gate_init="orthogonal", name=name) for name in "ab"
    )
    assert torch.equal(layer.gates[0], again.gates[0])
    assert not torch.equal(layer.gates[0], other.gates[0])
    wide = StratifiedMoE(3, 4, [8], router={"kind": "base"}, gate_init="orthogonal").gates[0]
    torch.testing.assert_close(wide.T @ wide, 0.01 * torch.eye(3), rtol=1e-6, atol=1e-8)
