"""Expert choice against the loop over experts and sentences."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.config.smoe import SmoeConfig
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe import StratifiedMoE, load_balancing_loss
from smoe_ds.moe.losses import auxiliary_losses
from smoe_ds.moe.routers.expert_choice import best_of_groups
from tests.helpers.naive_block import NaiveRouter, Preference
from tests.helpers.router_cases import LENGTH, D, assert_equals_loop, router_layer, sentences


def choice(**settings: Any) -> dict[str, Any]:
    return {"kind": "expert_choice"} | settings


def naive(layer: StratifiedMoE, mean_experts: float, group: str) -> NaiveRouter:
    def route(stratum: int, positions: list[int], tokens: list[Tensor]) -> list[Preference]:
        probs = [torch.softmax(layer.gates[stratum] @ h, 0) for h in tokens]
        num_experts = len(layer.gates[stratum])
        taken: list[list[int]] = [[] for _ in tokens]
        for sentence in {n // LENGTH for n in positions} if group == "sentence" or not layer.training else {None}:
            members = [t for t, n in enumerate(positions) if sentence in (None, n // LENGTH)]
            share = math.ceil(mean_experts * len(members) / num_experts)
            for expert in range(num_experts):
                for t in sorted(members, key=lambda t: -probs[t][expert].item())[:share]:
                    taken[t].append(expert)
        return [
            (int(prob.argmax()), [(e, prob[e]) for e in sorted(experts, key=lambda e: -prob[e].item())])
            for prob, experts in zip(probs, taken, strict=True)
        ]

    return route


@pytest.mark.parametrize("backend", ["loop", "lean"])
@pytest.mark.parametrize("strata", [[4], [2, 3], [1, 2, 2]], ids=str)
@pytest.mark.parametrize("mean_experts", [0.7, 2.0, 9.0])
@pytest.mark.parametrize("group", ["sentence", "batch"])
def test_equals_the_loop(group: str, mean_experts: float, strata: list[int], backend: str) -> None:
    layer = router_layer(strata, choice(group=group, mean_experts=mean_experts), expert_backend=backend)
    for training in (True, False):
        assert_equals_loop(layer.train(training), naive(layer, mean_experts, group))


def test_each_expert_takes_exactly_its_share_of_each_sentence() -> None:
    """Padding, whose scores could be the highest of all, is never taken: only its share is counted."""
    layer = router_layer([5], choice(mean_experts=1.5))
    x, ids, padding = sentences()
    x[padding] = 100 * x[~padding].mean(0)
    y, stats = layer(x, padding, None, ids)
    shares = [math.ceil(1.5 * n / 5) for n in (~padding).sum(1).tolist()]
    assert stats.strata[0].requested_KE.sum(0).tolist() == [sum(shares)] * 5
    assert stats.strata[0].num_dropped == 0
    assert torch.equal(y[padding], x[padding])


def test_reversed_tokens_give_reversed_outputs() -> None:
    layer = router_layer([3, 3], choice())
    x = torch.randn(2, 8, D, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    ids = torch.zeros(2, 8, dtype=torch.long)
    forwards, _ = layer(x, None, None, ids)
    backwards, _ = layer(x.flip(0, 1), None, None, ids)
    torch.testing.assert_close(backwards.flip(0, 1), forwards, rtol=1e-12, atol=1e-12)


def test_equal_scores_go_to_the_lower_token() -> None:
    taken = best_of_groups(torch.full((7, 3), 0.5), torch.tensor([4, 4, 4, 9, 9, 9, 9]), 1.0)
    assert taken.tolist() == [[place in (0, 3, 4)] * 3 for place in range(7)]


def test_forbidden_experts_take_nothing_and_the_others_their_shares() -> None:
    scores = torch.rand(8, 4, generator=torch.Generator().manual_seed(1))
    taken = best_of_groups(scores, torch.zeros(8, dtype=torch.long), 1.0, torch.tensor([True, False, True, False]))
    assert taken.sum(0).tolist() == [0, 4, 0, 4]


def test_a_decoder_is_refused_with_the_remedy() -> None:
    run: dict[str, Any] = {"data": {"path": "d"}, "train": {"output_dir": "o"}}
    with pytest.raises(ValidationError, match=r"decoder.layers.1.ffn: expert_choice looks at later tokens.*give the"):
        SmoeConfig.model_validate(run | {"moe": {"router": choice()}})
    remedy = {"decoder.*": {"router": {"kind": "top_k"}}}
    SmoeConfig.model_validate(run | {"moe": {"router": choice(), "layers": remedy}})


def test_only_the_other_blocks_are_balanced_by_the_loss() -> None:
    sizes = ModelConfig(d_model=8, d_ffn=8, num_heads=2, encoder_layers=2, decoder_layers=2)
    moe = MoeConfig(strata=[2, 2], layers={"encoder.*": {"router": choice()}})
    model = Transformer(sizes, moe, 40)
    _, stats = model(torch.tensor([[5, 6, 7, 8]]), torch.tensor([[5, 9, 4]]))
    (loss,) = auxiliary_losses(moe, sizes)
    assert torch.equal(loss.compute(stats, sum_counts=None, num_ranks=1), load_balancing_loss(stats[1:]))
    assert auxiliary_losses(MoeConfig(strata=[2, 2], layers={"*": {"router": choice()}}), sizes) == ()
