"""Sentences that the vocabulary re-spells are counted by language, shown, and told of by the report and the check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.report.text import format_examples, format_report, vocabulary_rows
from data_prep.vocabulary import round_trip
from data_prep.vocabulary.round_trip import MAX_EXAMPLES, sampled
from smoe_ds.cli.main import main
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.round_trip import first_difference, held_out_round_trip
from tests.helpers.prepared import prepare_spec, sentence, small_spec, write_lines

SIZE = 300
PERSIAN = ["می‌خواهم", "بزرگ", "درخت", "آبی", "کتاب", "روز"]


def persian(number: int) -> str:
    return " ".join(PERSIAN[number // 6**place % 6] for place in range(4))


def spec_of(folder: Path, rule: str, **sections: Any) -> dict[str, Any]:
    """English and Persian, of which about half of the sentences hold a zero-width non-joiner."""
    spec = small_spec(folder, languages=("nso",), size=SIZE)
    source = {
        "src": write_lines(folder / "a", [sentence(number) for number in range(SIZE)]),
        "tgt": write_lines(folder / "b", [persian(number) for number in range(SIZE)]),
    }
    spec["pairs"] = [{"pair": "eng-fas", "train": [source]}]
    spec["clean"] = {"near_duplicates": "keep", "max_ratio": None}
    spec["sentencepiece"]["normalization"] = rule
    return spec | sections


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("changing")
    return prepare_spec(folder, spec_of(folder, "nmt_nfkc"))


def test_the_count_is_that_of_all_sentences_one_by_one(changing: Corpus) -> None:
    tokenizer, texts = changing.tokenizer, [persian(number) for number in range(SIZE)]
    changed = [text for text in texts if tokenizer.decode(tokenizer.encode(text)) != text]
    found = changing.manifest["vocabulary"]["languages"]
    assert 0 < len(changed) < SIZE and found["eng"]["changed"] == 0 and found["eng"]["changed_examples"] == []
    assert (found["fas"]["compared"], found["fas"]["changed"]) == (SIZE, len(changed))
    shown = [[text.replace("\u200c", "\\u200c"), text.replace("\u200c", " ")] for text in changed]
    assert len(found["fas"]["changed_examples"]) == MAX_EXAMPLES
    assert all(example in shown for example in found["fas"]["changed_examples"])


def test_the_report_says_it(changing: Corpus) -> None:
    rows = {row[0]: row[-1] for row in vocabulary_rows(changing.manifest["vocabulary"])}
    figures = changing.manifest["vocabulary"]["languages"]["fas"]
    unchanged = 1 - figures["changed"] / figures["compared"]
    assert rows["eng"] == "100.00%" and float(rows["fas"].rstrip("%")) == pytest.approx(100 * unchanged, abs=0.01)
    text = format_report(changing.manifest)
    assert "\nnormalization of the vocabulary: nmt_nfkc\n" in text
    (warning,) = [line for line in text.splitlines() if "vocabulary: changes sentences" in line]
    assert f"of fas {1 - unchanged:.2%}, e.g." in warning and "eng" not in warning and "می\\u200cخواهم" in warning
    report = json.loads((changing.path / "report.json").read_text(encoding="utf-8"))
    examples = format_examples(report)
    assert f"fas: {figures['changed']} of {SIZE} sentences do not come back" in examples
    assert "  |||  ".join(figures["changed_examples"][0]) in examples and "eng:" not in examples


def test_nearly_all_is_not_all() -> None:
    figures = {"text": "train", "characters_per_token": 1.0, "tokens_per_sentence": 1.0, "character_coverage": 1.0,
               "token_coverage": 1.0, "vocabulary_used": 1.0}  # fmt: skip
    for compared, changed, shown in ((10**6, 1, "99.99%"), (10**6, 0, "100.00%"), (0, 0, "-"), (3, 1, "66.66%")):
        entry = {"languages": {"x": {**figures, "compared": compared, "changed": changed}}}
        assert vocabulary_rows(entry)[1][-1] == shown


def test_the_check_says_it_of_held_out_text(changing: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    found = held_out_round_trip(changing)
    texts = [line for split in ("valid", "test")
             for line in changing.text_files(split, "eng-fas")[1].read_text(encoding="utf-8").splitlines()]  # fmt: skip
    assert found["fas"].compared == len(texts) == 30 and not found["eng"].changed
    assert found["fas"].changed == [(text, text.replace("\u200c", " ")) for text in texts if "\u200c" in text]
    assert main(["data", "check", str(changing.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = (
        "vocabulary (normalization nmt_nfkc): held-out sentences that do not come back from their pieces as they are:"
    )
    assert lines[1] == told
    number = len(found["fas"].changed)
    assert lines[2].startswith(f"  fas: {number} of 30 ({number / 30:.2%}): “") and "می\\u200cخواهم" in lines[2]
    assert len(lines) == 3


def test_a_given_model_keeps_its_rule(changing: Corpus, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "nfc")
    spec["sentencepiece"]["model"] = str(changing.tokenizer.model_file)
    vocabulary = prepare_spec(tmp_path, spec).manifest["vocabulary"]
    assert vocabulary["normalization"] == "nmt_nfkc"
    assert vocabulary["languages"] == changing.manifest["vocabulary"]["languages"]


def test_large_text_is_sampled_the_same_way_however_it_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(round_trip, "SAMPLE", 100)
    rows = sampled(0, 5000, 5000, seed=3)
    assert 60 < rows.sum() < 140 and np.array_equal(
        rows, np.concatenate([sampled(0, 7, 5000, 3), sampled(7, 5000, 5000, 3)])
    )
    assert sampled(0, 100, 100, 3).all() and not np.array_equal(rows, sampled(0, 5000, 5000, 4))
    found = []
    for number, piece_size in enumerate((1000, 37)):
        spec = spec_of(tmp_path, "nmt_nfkc", output=f"corpus{number}")
        corpus = prepare_spec(tmp_path, spec, piece_size=piece_size)
        found.append(corpus.manifest["vocabulary"]["languages"])
    assert found[0] == found[1]
    held_out, figures = 30, found[0]["fas"]
    assert held_out + 60 < figures["compared"] < held_out + 140 and 0 < figures["changed"] < figures["compared"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("abc", "abd", ("abc", "abd")),
        ("abc", "ab", ("abc", "ab")),
        ("x" * 100 + "1" + "y" * 100, "x" * 100 + "2" + "y" * 100,
         ("..." + "x" * 30 + "1" + "y" * 39 + "...", "..." + "x" * 30 + "2" + "y" * 39 + "...")),
    ],
)  # fmt: skip
def test_the_part_that_differs_is_shown(before: str, after: str, expected: tuple[str, str]) -> None:
    assert first_difference(before, after) == expected
