"""What pruning removed and what it costs, whole."""

from __future__ import annotations

from smoe_ds.analysis.pruning import KeepRule, Pruning
from smoe_ds.analysis.pruning_cost import DirectionCost, PruningCost
from smoe_ds.evaluate.metrics import Score
from smoe_ds.report.pruning import cost_table, removed_text
from smoe_ds.report.scores import CUT, MIXED


def test_removed_experts() -> None:
    removed = {"encoder.layers.1.ffn": [0, 5], "decoder.layers.1.ffn": []}
    pruning = Pruning(
        KeepRule(number=4), ("eng-nso",), "valid", "abc", {}, removed, dict.fromkeys(removed, 6), {"eng-nso": 3}
    )
    assert removed_text(pruning).splitlines() == [
        "encoder.layers.1.ffn: 4 of 6 experts kept, removed 0, 5",
        "decoder.layers.1.ffn: 6 of 6 experts kept, removed none",
        "sentence pairs too long to be counted: eng-nso 3",
    ]
    assert pruning.as_json() == {
        "rule": {"number": 4, "share": None},
        "directions": ["eng-nso"],
        "split": "valid",
        "corpus": "abc",
        "too_long": {"eng-nso": 3},
        "use": {},
        "targets": None,
    }


def test_cost() -> None:
    there = DirectionCost("eng-nso", Score(10.0, 40.0, 1.0), Score(9.5, 41.0, 1.0), "13a", 0)
    back = DirectionCost("nso-eng", Score(20.0, 50.0, 1.0), Score(20.0, 48.0, 1.0), "13a", 0)
    table = cost_table(PruningCost("test", None, {}, (there, back)))
    assert table.text().splitlines() == [
        "direction      cut  tokenizer  BLEU whole  pruned  difference  chrF++ whole  pruned  difference",
        "-------------  ---  ---------  ----------  ------  ----------  ------------  ------  ----------",
        "eng-nso          0  13a             10.00    9.50       -0.50         40.00   41.00        1.00",
        "nso-eng          0  13a             20.00   20.00        0.00         50.00   48.00       -2.00",
        "-------------  ---  ---------  ----------  ------  ----------  ------------  ------  ----------",
        "mean of 2 all       13a             15.00   14.75       -0.25         45.00   44.50       -0.50",
    ]
    assert table.as_json()[0] == {
        "direction": "eng-nso",
        "truncated": 0,
        "tokenizer": "13a",
        "bleu_whole": 10.0,
        "bleu_pruned": 9.5,
        "bleu_difference": -0.5,
        "chrf_whole": 40.0,
        "chrf_pruned": 41.0,
        "chrf_difference": 1.0,
    }


def test_cost_with_several_tokenizers_and_cut_sources() -> None:
    there = DirectionCost("eng-zho", Score(10.0, 40.0, 1.0), Score(9.5, 41.0, 1.0), "zh", 3)
    back = DirectionCost("zho-eng", Score(20.0, 50.0, 1.0), Score(20.0, 48.0, 1.0), "13a", 0)
    lines = cost_table(PruningCost("test", None, {}, (there, back))).text().splitlines()
    assert lines[2].split()[:4] == ["eng-zho", "3", "zh", "10.00"]
    chrf = ["45.00", "44.50", "-0.50"]
    assert lines[5].split() == ["mean", "of", "2", "all", "mixed", "15.00", "*", "14.75", "*", "-0.25", "*", *chrf]
    assert lines[6:] == [CUT, MIXED]
