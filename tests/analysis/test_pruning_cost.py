"""What pruning costs, as ``pruning_scores.json`` keeps it; means against a loop."""

from __future__ import annotations

import json
import random
import statistics

import pytest

from smoe_ds.analysis.pruning_cost import DirectionCost, PruningCost
from smoe_ds.evaluate.metrics import Score


def cost(*directions: str) -> PruningCost:
    rng = random.Random(3)

    def score() -> Score:
        return Score(rng.uniform(0, 100), rng.uniform(0, 100), rng.random())

    costs = tuple(DirectionCost(name, score(), score(), "13a", 2) for name in directions)
    return PruningCost("test", 6, {"BLEU": "nrefs:1|tok:13a"}, costs)


def test_it_survives_its_file() -> None:
    found = cost("eng-a", "b-eng")
    content = json.loads(json.dumps(found.as_json()))
    assert PruningCost.from_json(content) == found and content == found.as_json()


def test_costs_from_before_directions_had_tokenizers() -> None:
    found = cost("eng-a", "b-eng")
    content = found.as_json()
    for one in content["directions"].values():
        del one["tokenizer"]
    assert PruningCost.from_json(content) == found


def test_means() -> None:
    found = cost("eng-a", "a-eng", "eng-b", "eng-c")
    assert [mean.name for mean in found.means] == ["eng-xxx", "all"]
    for mean, names in zip(
        found.means, (("eng-a", "eng-b", "eng-c"), ("eng-a", "a-eng", "eng-b", "eng-c")), strict=True
    ):
        group = [one for one in found.directions if one.direction in names]
        assert mean.directions == len(names)
        for kind in ("whole", "pruned"):
            for place, metric in enumerate(("bleu", "chrf")):
                expected = statistics.fmean(getattr(getattr(one, kind), metric) for one in group)
                assert getattr(mean, kind)[place] == pytest.approx(expected)
    assert cost("eng-a").means == []
