"""What pruning removed and what it costs, whole."""

from __future__ import annotations

from smoe_ds.analysis.pruning import KeepRule, Pruning
from smoe_ds.analysis.pruning_cost import DirectionCost, PruningCost
from smoe_ds.evaluate.metrics import Score
from smoe_ds.report.pruning import cost_table, removed_text


def test_removed_experts() -> None:
    removed = {"encoder.layers.1.ffn": [0, 5], "decoder.layers.1.ffn": []}
    pruning = Pruning(KeepRule(number=4), ("eng-nso",), "valid", "abc", {}, removed, 6)
    assert removed_text(pruning).splitlines() == [
        "encoder.layers.1.ffn: 4 of 6 experts kept, removed 0, 5",
        "decoder.layers.1.ffn: 6 of 6 experts kept, removed none",
    ]
    assert pruning.as_json() == {
        "rule": {"number": 4, "share": None},
        "directions": ["eng-nso"],
        "split": "valid",
        "corpus": "abc",
        "use": {},
    }


def test_cost() -> None:
    there = DirectionCost("eng-nso", Score(10.0, 40.0, 1.0), Score(9.5, 41.0, 1.0))
    back = DirectionCost("nso-eng", Score(20.0, 50.0, 1.0), Score(20.0, 48.0, 1.0))
    table = cost_table(PruningCost("test", None, {}, (there, back)))
    assert table.text().splitlines() == [
        "direction      BLEU whole  pruned  difference  chrF++ whole  pruned  difference",
        "-------------  ----------  ------  ----------  ------------  ------  ----------",
        "eng-nso             10.00    9.50       -0.50         40.00   41.00        1.00",
        "nso-eng             20.00   20.00        0.00         50.00   48.00       -2.00",
        "-------------  ----------  ------  ----------  ------------  ------  ----------",
        "mean of 2 all       15.00   14.75       -0.25         45.00   44.50       -0.50",
    ]
    assert table.as_json()[0] == {
        "direction": "eng-nso",
        "bleu_whole": 10.0,
        "bleu_pruned": 9.5,
        "bleu_difference": -0.5,
        "chrf_whole": 40.0,
        "chrf_pruned": 41.0,
        "chrf_difference": 1.0,
    }
