"""The analysis of blocks whose tokens take any number of experts, from none to all, or no gate's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from smoe_ds.analysis.choice_pairs import count_pairs
from smoe_ds.analysis.expert_use import count_choices
from smoe_ds.analysis.pruning import held_out_batches
from smoe_ds.analysis.routing_analysis import analyse_routing
from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.load import TrainedRun
from smoe_ds.moe.routing import GateSums, Routing
from tests.helpers.random_run import random_run

MOE: dict[str, dict[str, Any]] = {
    "top_p": {"strata": [2, 2], "router": {"kind": "top_p"}},
    "dynamic": {"strata": [2, 2], "router": {"kind": "dynamic"}},
    "hash": {"strata": [2, 2], "router": {"kind": "hash"}},
    "random": {"strata": [4], "router": {"kind": "random"}},
    "stacked": {"strata": [2, 2], "stacked": True},
    "expert choice": {"strata": [4], "layers": {"encoder.*": {"router": {"kind": "expert_choice"}}}},
    "encoder only": {"strata": [2, 2], "layers": {"decoder.*": {"strata": []}}},
}


@pytest.mark.parametrize("name", MOE)
def test_parts_add_up(name: str, tmp_path: Path, corpus: Corpus) -> None:
    run = TrainedRun(random_run(tmp_path, corpus, moe=MOE[name]), device="cpu")
    translator = run.translator(run.checkpoint())
    found = analyse_routing(translator, corpus, "valid", ["eng-nso"], 4)
    batches = held_out_batches(translator, corpus, "valid", ["eng-nso"], 4)["eng-nso"]
    use = count_choices(translator.model, batches, translator.device)
    assert {one.block for one in found.shares} == set(use)
    for one in found.shares:
        assert torch.equal(torch.from_numpy(one.all_E), use[one.block].all_E)
        assert torch.equal(torch.from_numpy(one.first_E), use[one.block].first_E)
    for block, counts in use.items():
        strata = [one for one in found.loads if (one.block, one.direction) == (block, "all")]
        rows = sum(one.choices * one.tokens for one in strata if one.choices is not None)
        assert rows == pytest.approx(int(counts.all_E.sum()))
        (total,) = [one for one in found.capacities if (one.block, one.by) == (block, "all")]
        assert total.requested_capacity * total.tokens == pytest.approx(sum(one.tokens for one in strata))
        if name == "stacked":
            assert total.requested_capacity == 2
            assert {one.same_stratum for one in strata} == {1.0}
        if name == "hash":
            assert {one.same_stratum for one in strata} == {None}


def test_pairs_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(1)
    stratum_after_E = torch.tensor([1, 1, 2, 2, 2])
    expert_TK = torch.stack([torch.randperm(5, generator=generator)[:3] for _ in range(40)])
    chosen_TK = torch.rand(40, 3, generator=generator) < 0.7
    nothing = torch.zeros(())
    for chosen in (None, chosen_TK):
        routing = Routing(expert_TK, torch.ones(40, 3), GateSums(torch.ones(5), nothing, nothing), chosen)
        pairs = same = 0
        for t, (first, second, _) in enumerate(expert_TK.tolist()):
            if chosen is None or (chosen[t, 0] and chosen[t, 1]):
                pairs += 1
                same += (first < 2) == (second < 2)
        assert count_pairs(routing, stratum_after_E).tolist() == [pairs, same]
        assert 0 < same < pairs
    one = Routing(expert_TK[:, :1], torch.ones(40, 1), GateSums(torch.ones(5), nothing, nothing))
    assert count_pairs(one, stratum_after_E).tolist() == [0, 0]
