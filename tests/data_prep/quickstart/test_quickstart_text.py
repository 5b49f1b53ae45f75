"""Which strings of a catalog become training text, and how they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.quickstart.quickstart_text import is_plain, is_sentence_pair, unique_pairs, write_corpus_text
from data_prep.spec.load_spec import load_spec
from smoe_ds.errors import DataError


@pytest.mark.parametrize(
    ("english", "other", "expected"),
    [
        ("Open the file", "Buka fail itu", True),
        ("Open file", "Buka fail", False),
        ("Audio output pin", "Pin output audio", False),
        ("The audio output is not there", "Output audio tidak ada di situ", True),
        ("| title [X] . . . . set title", "| tajuk [X] . . . . set tajuk", False),
        ("Network;IP;LAN;Proxy;", "Rangkaian;Internet;Kawasan;Proksi;", False),
        ("%s: %d (%s)", "%s: %d - (%s)", False),
        ("Left in English", "left in english", False),
        ("Open the file now please", "x", False),
        ("Open the file", "Buka fail itu " * 20, False),
        ("", "Buka", False),
        ("Open the file", "", False),
    ],
)
def test_is_sentence_pair(english: str, other: str, expected: bool) -> None:
    assert is_sentence_pair(english, other) is expected


@pytest.mark.parametrize(
    ("english", "expected"),
    [
        ("Open the file", True),
        ("It isn't “there”, is it?", True),
        ("Open the file %s", False),
        ("Found $1 pages", False),
        ("Open {0} files", False),
        ("Open file.txt again", False),
        ("Use --verbose here", False),
        ("Open 3 files", False),
        ("one two three four five", True),
        ("one two three four five six", False),
    ],
)
def test_is_plain(english: str, expected: bool) -> None:
    assert is_plain(english, max_words=5) is expected


def test_only_plain_pairs_if_asked() -> None:
    pairs = [("Open the file", "Buka fail itu"), ("Could not open %s", "Tidak dapat membuka %s")]
    assert unique_pairs(pairs) == pairs
    assert unique_pairs(pairs, max_plain_words=12) == pairs[:1]


def test_duplicates_go_whatever_their_case() -> None:
    pairs = [("Open the file", "Buka fail"), ("Open The File", "buka fail"), ("Open the file", "Buka fail itu")]
    assert unique_pairs(pairs) == [pairs[0], pairs[2]]


def test_the_specification_is_one_that_data_prep_accepts(tmp_path: Path) -> None:
    pairs = {"msa": [("Open the file", "Buka fail itu")], "cat": [("Open the file", "Obre el fitxer")]}
    spec_file = write_corpus_text(tmp_path, pairs, output="../prepared", origin={"source": "a test"})
    spec = load_spec(spec_file)
    assert [pair.pair for pair in spec.pairs] == ["eng-msa", "eng-cat"]
    assert (tmp_path / "text/eng-cat.cat").read_text() == "Obre el fitxer\n"


def test_no_specification_for_incomplete_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sentence pairs found for cat"):
        write_corpus_text(tmp_path, {"msa": [("a b c", "d")], "cat": []}, output="../prepared", origin={})
    assert not (tmp_path / "spec.yaml").exists()
