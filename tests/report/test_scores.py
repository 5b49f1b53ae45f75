"""The table of an evaluation, whole."""

from __future__ import annotations

from dataclasses import replace

from smoe_ds.evaluate.direction_scores import DirectionScores
from smoe_ds.evaluate.metrics import Score
from smoe_ds.evaluate.scores import Evaluation, Sample
from smoe_ds.report.scores import scores_page, scores_table


def direction(name: str, value: float, untrained: Score | None = None) -> DirectionScores:
    score, copied = Score(value, 2 * value, 1.0), Score(1.25, 2.0, 1.0)
    return DirectionScores(name, 1000, score, copied, untrained, 0, 0, 1.5, f"translations/test.{name}.txt", "13a")


EVALUATION = Evaluation(
    run="run",
    checkpoint={"asked": "best", "folder": "step_00000030", "step": 30},
    split="test",
    limit=None,
    decode={},
    directions=(direction("eng-nso", 10.0), direction("nso-eng", 20.5, Score(0.5, 1.0, 1.0))),
    samples=(Sample("eng-nso", "snow", "日本 `|", "leru"),),
    signatures={"spBLEU": "nrefs:1", "chrF++": "nc:6"},
)


def test_text() -> None:
    assert scores_page(EVALUATION).text().splitlines() == [
        "direction      sentences  cut  tokenizer  spBLEU  chrF++  spBLEU copied source  spBLEU untrained",
        "-------------  ---------  ---  ---------  ------  ------  --------------------  ----------------",
        "eng-nso             1000    0  13a         10.00   20.00                  1.25                 -",
        "nso-eng             1000    0  13a         20.50   41.00                  1.25              0.50",
        "-------------  ---------  ---  ---------  ------  ------  --------------------  ----------------",
        "mean of 2 all                  13a         15.25   30.50                  1.25              0.50",
        "",
        "spBLEU: nrefs:1",
        "chrF++: nc:6",
        "",
        "sample 1, eng-nso",
        "  source      snow",
        "  translation 日本 `|",
        "  reference   leru",
    ]


def test_what_was_cut_and_means_over_different_tokenizers_are_marked() -> None:
    there, back = EVALUATION.directions
    signatures = {"BLEU (zh)": "tok:zh", "BLEU (13a)": "tok:13a", "chrF++": "nc:6"}
    mixed = replace(
        EVALUATION, directions=(replace(there, tokenizer="zh", truncated=22), back), signatures=signatures, samples=()
    )
    assert scores_page(mixed).text().splitlines() == [
        "direction      sentences  cut  tokenizer     BLEU  chrF++  BLEU copied source  BLEU untrained",
        "-------------  ---------  ---  ---------  -------  ------  ------------------  --------------",
        "eng-nso             1000   22  zh           10.00   20.00                1.25               -",
        "nso-eng             1000    0  13a          20.50   41.00                1.25            0.50",
        "-------------  ---------  ---  ---------  -------  ------  ------------------  --------------",
        "mean of 2 all                  mixed      15.25 *   30.50              1.25 *          0.50 *",
        "cut: sources longer than smoe.model.max_positions; only their beginning was translated",
        "* a mean over different tokenizers: compare it only with the same mean of the same directions",
        "",
        "BLEU (zh): tok:zh",
        "BLEU (13a): tok:13a",
        "chrF++: nc:6",
    ]


def test_one_direction_has_no_mean() -> None:
    alone = replace(EVALUATION, directions=EVALUATION.directions[:1], samples=())
    assert len(scores_table(alone).text().splitlines()) == 3


def test_markdown() -> None:
    lines = scores_page(EVALUATION).markdown().splitlines()
    assert lines[:5] == [
        "| direction | sentences | cut | tokenizer | spBLEU | chrF++ | spBLEU copied source | spBLEU untrained |",
        "|---|---:|---:|---|---:|---:|---:|---:|",
        "| eng-nso | 1000 | 0 | 13a | 10.00 | 20.00 | 1.25 | - |",
        "| nso-eng | 1000 | 0 | 13a | 20.50 | 41.00 | 1.25 | 0.50 |",
        "| mean of 2 all |  |  | 13a | 15.25 | 30.50 | 1.25 | 0.50 |",
    ]
    assert lines[-6:] == [
        *["```text", "sample 1, eng-nso", "  source      snow", "  translation 日本 `|", "  reference   leru", "```"]
    ]
