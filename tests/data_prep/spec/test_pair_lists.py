"""The lists that ship with the package, held against what is known of the corpora."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from data_prep.languages.codes import usual_scripts
from data_prep.spec.pair_lists import FOLDER, listed_corpus

MEDIUM = "af as az br cy eo ga gl gu hi ka km ku mg ml nb ne nn pa rw sh ta tg tt ur uz wa xh"
LOW = "am be fy gd ha ig kk kn ky li mr my oc or ps se te tk ug yi zu"
ODD = {"gd": (1605, 1606), "ig": (1843, 1843), "kn": (917, 918), "or": (1317, 1318), "tk": (1852, 1852)}
M15 = {
    "high": {"ind": 6_500_000, "msa": 1_000_000, "tgl": 1_000_000, "isl": 1_000_000, "slv": 15_000_000},
    "low": {"nso": 526_000, "run": 454_000, "nob": 238_000, "cat": 634_000, "glg": 195_000},
    "very_low": {"ssw": 94_000, "fao": 4_000, "ltz": 8_000, "lim": 5_000, "fur": 6_000},
}


def test_opus100_has_its_pairs_groups_and_lines() -> None:
    """Totals as the corpus is described: 54.7M lines, 44 pairs of a million, 73 of 100,000 or more, 95 of 10,000."""
    listed = listed_corpus("opus100")
    trained = {name: pair for name, pair in listed.pairs.items() if pair.train is not None}
    tested = {name: pair for name, pair in trained.items() if pair.test is not None}
    assert (len(trained), len(tested), len(listed.pairs) - len(trained), len(listed.languages)) == (99, 94, 15, 100)
    assert {_other(name) for name in trained.keys() - tested.keys()} == {"an", "dz", "hy", "mn", "yo"}
    assert Counter(pair.group for pair in tested.values()) == {"high": 45, "medium": 28, "low": 21}
    assert {_other(name) for name, pair in tested.items() if pair.group == "medium"} == set(MEDIUM.split())
    assert {_other(name) for name, pair in tested.items() if pair.group == "low"} == set(LOW.split())
    for name, pair in tested.items():
        assert (pair.valid, pair.test) == ODD.get(_other(name), (2000, 2000)), name
        assert pair.group == ("high" if pair.train >= 900_000 else "low" if pair.train < 100_000 else "medium"), name
    sizes = [pair.train for pair in trained.values()]
    assert round(sum(sizes) / 1e6, 1) == 54.7
    assert [sum(size >= limit for size in sizes) for limit in (1_000_000, 100_000, 10_000)] == [44, 73, 95]


def test_opus100_pairs_are_named_in_alphabetical_order() -> None:
    listed = listed_corpus("opus100")
    assert all(name.split("-") == sorted(name.split("-")) for name in listed.pairs)
    zero_shot = [name for name, pair in listed.pairs.items() if pair.train is None]
    assert sorted(zero_shot) == [f"{a}-{b}" for a, b in combinations(["ar", "de", "fr", "nl", "ru", "zh"], 2)]
    assert all(pair.lines == {"test": 2000} for name, pair in listed.pairs.items() if name in zero_shot)


def _other(name: str) -> str:
    return next(language for language in name.split("-") if language != "en")


@pytest.mark.parametrize("name", ["m4", "m15"])
def test_m4_and_m15_are_the_papers(name: str) -> None:
    listed = listed_corpus(name)
    expected = {language: (group, size) for group, sizes in M15.items() for language, size in sizes.items()}
    if name == "m4":
        expected = {language: expected[language] for language in ("nso", "msa", "tgl", "cat")}
    assert {pair: (entry.group, entry.train) for pair, entry in listed.pairs.items()} == {
        f"eng-{language}": value for language, value in expected.items()
    }
    assert {(entry.valid, entry.test) for entry in listed.pairs.values()} == {(997, 1012)}
    assert set(listed.codes) == set(listed.languages)
    flores = {language: codes[0] for language, codes in listed.codes.items()}
    assert flores == {language: f"{'zsm' if language == 'msa' else language}_Latn" for language in listed.languages}


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_list_says_where_each_text_is_from(file: Path) -> None:
    listed = listed_corpus(file.stem)
    assert all("https://" in place for place in listed.obtain.values())
    assert all(pair.also is None or pair.also in listed.obtain for pair in listed.pairs.values())
    names = [name for language in listed.languages for name in listed.names(language)]
    assert len(names) == len(set(names))
    assert all(usual_scripts(language) for language in listed.languages)
