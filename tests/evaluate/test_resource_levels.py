"""Resource levels of directions: the corpus's, or those of a file; and means by them, as in the paper's tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from smoe_ds.errors import ConfigError, DataError
from smoe_ds.evaluate.averages import averages, groups
from smoe_ds.evaluate.direction_scores import DirectionScores
from smoe_ds.evaluate.metrics import Score
from smoe_ds.evaluate.resource_levels import level_of, read_groups, resource_levels

DIRECTIONS = ["eng-nso", "nso-eng", "eng-msa", "msa-eng", "eng-tgl", "tgl-eng", "eng-cat"]


def written(folder: Path, text: str) -> Path:
    file = folder / "groups.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_pairs_of_the_corpus_stand_for_both_directions() -> None:
    levels = resource_levels(DIRECTIONS, {"eng-nso": "low", "eng-msa": "high", "eng-tgl": "high"}, None)
    assert levels == ("low", "low", "high", "high", "high", "high", None)


def test_a_file_names_languages_pairs_and_directions(tmp_path: Path) -> None:
    file = written(tmp_path, "high: [msa, eng-tgl]\nlow: [nso, tgl-eng]\n")
    levels = resource_levels(DIRECTIONS, {"eng-cat": "low"}, file)
    assert levels == ("low", "low", "high", "high", "high", "low", None), "the file counts alone"
    by_name = read_groups(file)
    assert level_of("nso-msa", by_name) is None, "of two levels"
    assert level_of("nso-cat", by_name) == "low"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("low: [xyz]", "has no group of eng-nso, nso-eng"),
        ("low: nso", 'low: expected a list of codes, "no" in quotes'),
        ("low: [no]", 'low: expected a list of codes, "no" in quotes'),
        ("low: [nso]\nhigh: [nso]", "nso is in low and in high"),
        ("[nso]", "expected groups with their languages"),
        ("", "expected groups with their languages"),
        ("all: [nso]", "'all' cannot be the name of a group"),
        ("1: [nso]", "1 cannot be the name of a group"),
        ("low: [nso", "not YAML"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises((DataError, ConfigError), match=r"--groups .*groups\.yaml") as error:
        resource_levels(DIRECTIONS, {}, written(tmp_path, text))
    assert message in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.yaml: cannot be read"):
        read_groups(tmp_path / "nowhere.yaml")


def test_groups_are_the_columns_of_the_papers_tables() -> None:
    levels = ["very_low", "low", "high", "high", "high", "high", "low"]
    assert groups(DIRECTIONS, levels) == {
        "eng-xxx": [0, 2, 4, 6],
        "eng-xxx high": [2, 4],
        "eng-xxx low": [6],
        "eng-xxx very_low": [0],
        "xxx-eng": [1, 3, 5],
        "xxx-eng high": [3, 5],
        "xxx-eng low": [1],
        "all": list(range(7)),
    }
    assert list(groups(["a-b", "b-c", "c-a"], ["other", "low", None])) == ["low", "other", "all"], "without a pivot"
    assert list(groups(["eng-a", "eng-b"], ["low", "low"])) == ["eng-xxx", "all"], "one level is no group of its own"
    assert list(groups(["eng-a", "a-eng"], ["low", None], smallest=1)) == ["low", "all"]


def test_means_of_what_was_measured_throughout() -> None:
    score = Score(1.0, 2.0, 1.0)
    one = DirectionScores("eng-a", 5, score, score, None, 0, 0, 1.0, "t", "13a", "low", spbleu=3.0, comet=0.5)
    two = replace(one, direction="eng-b", level="high", spbleu=5.0, comet=None)
    found = {mean.name: mean for mean in averages([one, two])}
    assert list(found) == ["eng-xxx", "eng-xxx high", "eng-xxx low", "all"]
    assert (found["all"].spbleu, found["all"].comet) == (4.0, None)
    assert (found["eng-xxx low"].comet, found["eng-xxx low"].directions) == (0.5, 1)
