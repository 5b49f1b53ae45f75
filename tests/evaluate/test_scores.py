"""Scores as ``scores.json`` keeps them, and their averages."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from smoe_ds.evaluate.averages import averages, pivot_of
from smoe_ds.evaluate.direction_scores import DirectionScores
from smoe_ds.evaluate.metrics import Score
from smoe_ds.evaluate.scores import Evaluation, Sample


def results(*directions: str) -> list[DirectionScores]:
    scores = [Score(float(n), 2.0 * n, 1.0) for n in range(1, len(directions) + 1)]
    return [
        DirectionScores(d, 5, s, s, None, 0, 0, 1.0, f"translations/test.{d}.txt", "13a")
        for d, s in zip(directions, scores, strict=True)
    ]


def test_averages_by_side_of_the_pivot() -> None:
    found = {a.name: (a.directions, a.bleu, a.chrf) for a in averages(results("eng-a", "a-eng", "eng-b", "b-eng"))}
    assert found == {"eng-xxx": (2, 2.0, 4.0), "xxx-eng": (2, 3.0, 6.0), "all": (4, 2.5, 5.0)}
    assert [a.name for a in averages(results("eng-a", "a-eng"))] == ["all"]
    assert [a.name for a in averages(results("a-b", "c-d"))] == ["all"]
    assert averages(results("eng-a")) == []


def test_a_mean_knows_its_tokenizers() -> None:
    found = results("eng-a", "eng-zho", "zho-eng", "a-eng")
    found[1] = replace(found[1], tokenizer="zh")
    assert {mean.name: mean.tokenizers for mean in averages(found)} == {
        "eng-xxx": ("13a", "zh"),
        "xxx-eng": ("13a",),
        "all": ("13a", "zh"),
    }


def test_scores_from_before_directions_had_tokenizers() -> None:
    """One was for all, and the signature names it."""
    signature = "nrefs:1|case:mixed|eff:no|tok:intl|smooth:exp|version:2.6.0"
    one = replace(results("eng-a")[0], tokenizer="intl")
    evaluation = Evaluation("run", {}, "test", None, {}, (one,), (), {"BLEU": signature, "chrF++": "nc:6"})
    content = evaluation.as_json()
    del content["directions"]["eng-a"]["tokenizer"]
    assert Evaluation.from_json(content) == evaluation


@pytest.mark.parametrize(
    ("directions", "pivot"), [(["eng-a", "b-eng"], "eng"), (["eng-a", "a-eng"], None), (["a-b", "b-c", "c-a"], None)]
)
def test_pivot(directions: list[str], pivot: str | None) -> None:
    assert pivot_of(directions) == pivot


@pytest.mark.parametrize("untrained", [None, Score(0.1, 2 / 3, 0.5)])
@pytest.mark.parametrize("bleu", ["BLEU", "spBLEU"])
def test_an_evaluation_survives_its_file(untrained: Score | None, bleu: str) -> None:
    evaluation = Evaluation(
        run="runs/é",
        checkpoint={"asked": "best", "folder": "step_00000030", "step": 30},
        split="test",
        limit=None if untrained else 7,
        decode={"beam_size": 5, "dtype": "float32"},
        directions=tuple(replace(one, untrained=untrained) for one in results("eng-b", "a-eng", "eng-a")),
        samples=(Sample("eng-a", "snow", "日本|`\u2028", "neu"),),
        signatures={bleu: "nrefs:1", "chrF++": "nc:6"},
    )
    content = json.loads(json.dumps(evaluation.as_json()))
    assert Evaluation.from_json(content) == evaluation
    assert content == evaluation.as_json()
    assert evaluation.bleu_name == bleu
    assert list(content["averages"]) == ["eng-xxx", "all"]
    assert list(content["directions"]) == ["eng-b", "a-eng", "eng-a"]
