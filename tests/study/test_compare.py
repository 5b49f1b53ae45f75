"""Means, errors and tests over rows, by hand and by counting."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import pytest

from smoe_ds.evaluate.counts import Counts
from smoe_ds.evaluate.metrics import Metrics
from smoe_ds.report.study.contents import study_contents
from smoe_ds.report.study.curves import value_at
from smoe_ds.report.study.systems import directions_table, systems_table
from smoe_ds.report.study.text import study_page
from smoe_ds.study.compare import compare, sign_test
from smoe_ds.study.directions import groups_of
from smoe_ds.study.row import Row


def row(system: str, seed: int, nll: dict[str, float], **more: Any) -> Row:
    return Row(system=system, variant="", seed=seed, fingerprint="f", status="done", nll=nll, **more)


ROWS = [
    row("vanilla", 1, {"eng-nso": 2.0, "nso-eng": 4.0}, curve=[(1, 10, 1, 5.0), (2, 20, 2, 3.0)]),
    row("vanilla", 2, {"eng-nso": 3.0, "nso-eng": 5.0}, curve=[(1, 10, 1, 6.0), (2, 30, 2, 4.0)]),
    row("smoe", 1, {"eng-nso": 1.5, "nso-eng": 3.0}, requested_capacity=2.0, curve=[(2, 20, 2, 2.25)]),
    row("smoe", 2, {"eng-nso": 2.0, "nso-eng": 4.5}, requested_capacity=1.0, curve=[(2, 20, 2, 3.25)]),
    Row(system="smoe", variant="", seed=3, fingerprint="f", status="failed", error="out of memory"),
]


def test_means_and_errors() -> None:
    vanilla, smoe = compare(ROWS, "vanilla", {"nso": ["nso"], "none": ["run"]})
    assert (vanilla.mean("nll").value, vanilla.mean("nll").error) == (3.5, pytest.approx(0.5))
    assert (smoe.mean("nll").value, smoe.failed, smoe.seeds) == (2.75, 1, (1, 2))
    assert smoe.requested_capacity.value == 1.5
    assert smoe.mean("nll", "nso").value == 2.75
    assert smoe.mean("nll", "none") is None
    assert smoe.by_direction["nll"]["nso-eng"].value == 3.75
    assert vanilla.differences == {}
    assert vanilla.curve == ((1, 10, 1, 5.5), (2, 25, 2, 3.5))
    assert (smoe.difference("nll").value, smoe.difference("nll").error) == (-0.75, 0.0)
    assert smoe.difference("nll", "eng-nso").error == pytest.approx(0.25)  # of -0.5 and -1.0


def test_memory_is_that_of_the_gpu_where_there_was_one() -> None:
    rows = [row("a", seed, {"eng-nso": 1.0}, peak_memory=5, device_memory=held) for seed, held in ((1, 7), (2, None))]
    (found,) = compare(rows, None, {})
    assert (found.peak_memory, found.on_device) == (7, True)
    (found,) = compare(rows[1:], None, {})
    assert (found.peak_memory, found.on_device) == (5, False)


def test_groups_are_the_papers_or_those_that_are_named() -> None:
    levels = {"eng-nso": "low", "nso-eng": "low", "eng-cat": "high", "cat-eng": "high"}
    rows = [row("a", 1, dict.fromkeys(("nso-eng", "eng-nso", "cat-eng", "eng-cat"), 1.0), levels=levels)]
    found = groups_of(rows, {})
    assert list(found) == [
        *("eng-xxx", "eng-xxx high", "eng-xxx low"),
        *("xxx-eng", "xxx-eng high", "xxx-eng low"),
        "all",
    ]
    assert found["xxx-eng low"] == ["nso-eng"]
    assert list(groups_of(rows, {"Bantu": ["nso"]})) == ["eng-xxx", "xxx-eng", "Bantu", "all"]


def test_differences_are_paired_by_seed_and_direction() -> None:
    _, smoe = compare([ROWS[0], *ROWS[2:4]], "vanilla", {})
    found = smoe.difference("nll")
    assert (found.value, found.error) == (-0.75, None)  # one seed is in both
    assert found.p == pytest.approx(2 / 4)
    (alone,) = compare(ROWS[2:4], "vanilla", {})
    assert alone.difference("nll") is None


@pytest.mark.parametrize("differences", [[1.0], [1.0, 2.0, -0.5], [0.0, 0.0], [3.0, 3.0, 3.0, 3.0, 3.1]], ids=str)
def test_sign_test_counts_patterns(differences: list[float]) -> None:
    hits = 0
    for signs in product((1, -1), repeat=len(differences)):
        hits += abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= abs(sum(differences)) - 1e-12
    assert sign_test(differences) == hits / 2 ** len(differences)


def test_sign_test_of_many_draws_patterns() -> None:
    assert 0 < sign_test([1.0] * 40) < 1e-3
    assert sign_test([1.0, -1.0] * 20) == 1.0


WORDS = ["the", "a", "cat", "dog", "house", "runs", "sees", "big", "small", "red"]
DRAW = random.Random(3)
REFERENCES = [" ".join(DRAW.choices(WORDS, k=8)) for _ in range(40)]


def scored(system: str, seed: int, right: float, **more: Any) -> Row:
    """A run that gets so many of the words of one direction right."""
    draw = random.Random(f"{seed} {right}")
    texts = [" ".join(w if draw.random() < right else draw.choice(WORDS) for w in line.split()) for line in REFERENCES]
    metrics = Metrics()
    score = metrics.score(texts, REFERENCES)
    counts = Counts.of(metrics, texts, REFERENCES, more.pop("text", "digest"))
    scores = {"eng-nso": {"bleu": score.bleu, "chrf": score.chrf}}
    return row(system, seed, {"eng-nso": 2.0}, scores=scores, counts={"eng-nso": counts}, **more)


def test_scores_are_tested_sentence_by_sentence() -> None:
    base = [scored("vanilla", seed, 0.6) for seed in (1, 2)]
    _, better, like = compare(
        [*base, *(scored(name, seed, right) for name, right in (("better", 0.8), ("like", 0.601)) for seed in (1, 2))],
        "vanilla",
        {},
    )
    for metric in ("bleu", "chrf"):
        assert better.difference(metric).value > 5 and better.difference(metric).p < 0.01
        assert like.difference(metric).p > 0.05
        assert better.difference(metric).value == pytest.approx(
            better.mean(metric).value - compare(base, None, {})[0].mean(metric).value
        )


def test_scores_of_other_text_are_not_tested() -> None:
    rows = [scored("vanilla", 1, 0.6), scored("smoe", 1, 0.8, text="another")]
    _, smoe = compare(rows, "vanilla", {})
    assert smoe.difference("bleu").value > 0 and smoe.difference("bleu").p is None
    notes = systems_table(study_contents("s", rows, "vanilla", {}, 2)).notes
    assert any(note.startswith("no p of BLEU and chrF++") for note in notes)


def test_the_best_is_marked_and_failures_are_told() -> None:
    study = study_contents("s", ROWS, "vanilla", {}, 5)
    by_system = {one["system"]: one for one in systems_table(study).as_json()}
    assert by_system["smoe"]["nll"] == "2.7500 +-0.5000 *"
    assert by_system["vanilla"]["nll"] == "3.5000 +-0.5000"
    assert by_system["smoe"]["nll_difference"] == "-0.7500 +-0.0000"
    assert "bleu" not in by_system["smoe"]
    text = study_page(study).text()
    assert "failed: smoe seed 3: out of memory" in text


def test_many_directions_have_rows_and_few_have_columns() -> None:
    few = directions_table(study_contents("s", ROWS, None, {}, 5), "nll")
    assert [column.header for column in few.columns] == ["system", "eng-nso", "nso-eng", "all"]
    assert "1.7500 *" in few.texts()[1]
    names = [f"eng-l{number:02}" for number in range(20)]
    rows = [row(name, 1, dict.fromkeys(names, value)) for name, value in (("a", 1.0), ("b", 2.0))]
    many = directions_table(study_contents("s", rows, None, {}, 2), "nll")
    assert [column.header for column in many.columns] == ["direction", "a", "b"]
    assert [line[0] for line in many.rows if line] == [*names, "eng-xxx", "all"]


def test_curves_are_read_between_validations_and_not_beyond() -> None:
    curve = [(10.0, 4.0), (20.0, 2.0)]
    assert [value_at(curve, x) for x in (9.0, 10.0, 12.5, 20.0, 21.0)] == [None, 4.0, 3.5, 2.0, None]
    assert value_at(curve[:1], 10.0) == 4.0
