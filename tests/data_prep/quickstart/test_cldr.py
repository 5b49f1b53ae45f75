"""Composed smoke-test text from CLDR."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from data_prep.quickstart.cldr import cldr_pairs, main
from smoe_ds.errors import DataError


@pytest.mark.parametrize("language", ["nso", "msa", "tgl", "cat"])
def test_pairs_are_translations_without_unit_identifiers(language: str) -> None:
    pairs = cldr_pairs(language, draws=1000)
    assert len(pairs) > 400
    assert len(set(pairs)) == len(pairs)
    other = "\n".join(translation for _, translation in pairs)
    assert not re.search(r"\b(length|duration|mass|speed)-\w", other)


def test_numbers_agree_on_both_sides() -> None:
    dates = [pair for pair in cldr_pairs("msa", draws=1000) if re.search(r"\b[12]\d{3}\b", pair[0])]
    assert len(dates) > 50
    for english, malay in dates:
        assert re.findall(r"\b[12]\d{3}\b", english) == re.findall(r"\b[12]\d{3}\b", malay)


def test_the_same_seed_gives_the_same_text() -> None:
    assert cldr_pairs("cat", seed=3, draws=200) == cldr_pairs("cat", seed=3, draws=200)
    assert cldr_pairs("cat", seed=3, draws=200) != cldr_pairs("cat", seed=4, draws=200)


def test_unknown_language() -> None:
    with pytest.raises(DataError, match="CLDR has no language 'qqx'"):
        cldr_pairs("qqx")


def test_command_says_that_this_is_smoke_test_data(tmp_path: Path) -> None:
    assert main(["--languages", "msa", "--out", str(tmp_path)]) == 0
    origin = json.loads((tmp_path / "origin.json").read_text())
    assert "smoke-test data" in origin["source"]
    assert origin["pairs"]["msa"] == len((tmp_path / "text/eng-msa.msa").read_text().splitlines())
    assert (tmp_path / "spec.yaml").exists()
