"""Exact and near duplicates, within a pair and across pairs: against dictionaries of strings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.cleaning.duplicates import comparable_pairs, nearly_repeated, repeated
from data_prep.spec.sections import Clean, PairSpec
from data_prep.text.sentence_key import key, near_key
from smoe_ds.data.corpus import Corpus
from tests.helpers.prepared import prepare_spec, sentence, translate, write_lines


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=30))
def test_equal_to_looking_back_one_by_one(rows: list[tuple[int, int]]) -> None:
    """Rows are (near form, variant of it)."""
    near = np.array([form for form, _ in rows], np.uint64)
    exact = np.array([10 * form + variant for form, variant in rows], np.uint64)
    assert repeated(exact).tolist() == [row in rows[:number] for number, row in enumerate(rows)]
    first = {form: rows[[other for other, _ in rows].index(form)] for form, _ in rows}
    assert nearly_repeated(near, exact).tolist() == [row != first[row[0]] for row in rows]


def _pairs(*names: str) -> list[PairSpec]:
    return [PairSpec.model_validate({"pair": name, "train": [{"src": "a", "tgt": "b"}]}) for name in names]


def test_pairs_that_are_compared() -> None:
    pairs = _pairs("en-nb", "de-en", "nn-eng", "eng_Latn-deu_Latn", "en-no", "nb-de")
    groups = {
        setting: [[pair.pair for pair in group] for group in comparable_pairs(Clean(duplicates_across=setting), pairs)]
        for setting in ("pair", "same_languages", "all")
    }
    assert groups["pair"] == [[pair.pair] for pair in pairs]
    assert groups["same_languages"] == [
        ["en-nb", "nn-eng", "en-no"],
        ["de-en", "eng_Latn-deu_Latn"],
        ["nb-de"],
    ]
    assert groups["all"] == [[pair.pair for pair in pairs]]


VARIANTS = [str, str.upper, lambda text: f"“{text}”", lambda text: text.replace(" ", "  "), lambda text: f"{text} 7"]


def prepared(folder: Path, **clean: Any) -> Corpus:
    """Four pairs with sentences in several forms; two pairs are of one language, one has its sides the other way."""
    pairs, output = [], "-".join(["out", *map(str, clean.values())])
    for number, (name, reverse) in enumerate([("en-nb", False), ("no-en", True), ("en-ca", False), ("en-nn", False)]):
        texts = [
            (form(sentence(k)), form(translate(sentence(k), "cat")))
            for k, form in ((k % 40 + 10 * number, VARIANTS[(k * 7 + number * k) % 5]) for k in range(200))
        ]
        sides = [[pair[side] for pair in texts] for side in ((1, 0) if reverse else (0, 1))]
        files = {side: write_lines(folder / f"{name}.{side}", lines)
                 for side, lines in zip(("src", "tgt"), sides, strict=True)}  # fmt: skip
        pairs.append({"pair": name, "train": [files]})
    return prepare_spec(folder, {
        "output": output, "pairs": pairs, "clean": clean, "held_out": {"valid": 0, "test": 0},
        "sentencepiece": {"vocab_size": 400, "allow_smaller": True, "num_threads": 1},
    })  # fmt: skip


def naive_counts(corpus: Corpus, folder: Path, clean: Clean) -> dict[str, dict[str, int]]:
    """Drops by pair, found with sets of strings in the order of the specification."""
    seen: dict[str, set[frozenset[str]]] = {}
    first_forms: dict[str, dict[frozenset[str], frozenset[str]]] = {}
    found = {}
    for name in corpus.pairs:
        languages = {code.replace("nb", "no").replace("nn", "no") for code in name.split("-")}
        group = {"pair": name, "same_languages": "-".join(sorted(languages)), "all": ""}[clean.duplicates_across]
        before, first = seen.setdefault(group, set()), first_forms.setdefault(group, {})
        sides = [(folder / f"{name}.{side}").read_text().split("\n")[:-1] for side in ("src", "tgt")]
        counts = {"duplicate": 0, "near_duplicate": 0}
        for pair in zip(*sides, strict=True):
            exact = frozenset(" ".join(side.split()) for side in pair)
            near = frozenset(near_key(key(side)) for side in pair)
            if clean.duplicates == "drop" and exact in before:
                counts["duplicate"] += 1
                continue
            before.add(exact)
            if first.setdefault(near, exact) != exact and clean.near_duplicates == "drop":
                counts["near_duplicate"] += 1
        found[name] = {reason: number for reason, number in counts.items() if number}
    return found


@pytest.mark.parametrize("across", ["pair", "same_languages", "all"])
@pytest.mark.parametrize("near", ["drop", "keep"])
def test_prepared_text(tmp_path: Path, across: str, near: str) -> None:
    clean = Clean.model_validate({"duplicates_across": across, "near_duplicates": near})
    corpus = prepared(tmp_path, duplicates_across=across, near_duplicates=near)
    report = corpus.manifest["report"]
    assert {pair: report[pair]["train"]["dropped"] for pair in corpus.pairs} == naive_counts(corpus, tmp_path, clean)
    total = sum(sum(report[pair]["train"]["dropped"].values()) for pair in corpus.pairs)
    assert total > {"pair": 300, "same_languages": 400, "all": 450}[across]
    for pair in corpus.pairs:
        counts = report[pair]["train"]
        kept = corpus.manifest["splits"]["train"][pair]["sentences"]
        assert counts["read"] == 200 == kept + sum(counts["dropped"].values())


def test_keeping_exact_duplicates_drops_only_other_forms(tmp_path: Path) -> None:
    corpus = prepared(tmp_path, duplicates="keep", duplicates_across="pair")
    expected = naive_counts(corpus, tmp_path, Clean(duplicates="keep", duplicates_across="pair"))
    found = {pair: corpus.manifest["report"][pair]["train"] for pair in corpus.pairs}
    assert {pair: counts["dropped"] for pair, counts in found.items()} == expected
    assert all(set(counts["dropped"]) <= {"near_duplicate"} for counts in found.values())
    assert any(counts["noticed"].get("duplicates") for counts in found.values())
