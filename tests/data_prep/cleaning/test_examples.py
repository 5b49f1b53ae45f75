"""Examples of dropped pairs: the ten of lowest rank, in whatever order and parts; of corpus-wide filters too."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from data_prep.cleaning.examples import MAX_CHARACTERS, NUM_EXAMPLES, Examples, example_rows, merged, without_ranks
from data_prep.readers.side_lines import lines_of
from data_prep.readers.sides import Side, Unusable
from data_prep.report.report_file import read_report
from data_prep.report.text import format_examples
from smoe_ds.data.corpus import Corpus
from smoe_ds.errors import DataError
from tests.helpers.prepared import prepare_spec, sentence, small_spec, translate, write_lines

PAIRS = [(f"source {number}", f"target {number}") for number in range(200)]


def line(side: Side) -> bytes:
    return lines_of([side])[:-1]


def collect(pairs: list[tuple[str, str]], seed: int = 1) -> dict[str, list[list[object]]]:
    examples = Examples(seed)
    for src, tgt in pairs:
        examples.add("even" if int(src.split()[1]) % 2 == 0 else "odd", line(src), line(tgt))
    return examples.ranked()


@pytest.mark.parametrize("seed", [1, 2])
def test_order_and_parts_do_not_matter(seed: int) -> None:
    whole = collect(PAIRS, seed)
    shuffled = random.Random(0).sample(PAIRS, len(PAIRS)) + PAIRS[:50]
    assert collect(shuffled, seed) == whole
    assert merged([collect(shuffled[:70], seed), collect(shuffled[70:90], seed), collect(shuffled[90:], seed)]) == whole
    shown = without_ranks(whole)
    assert {reason: len(found) for reason, found in shown.items()} == {"even": NUM_EXAMPLES, "odd": NUM_EXAMPLES}
    assert all(tuple(pair) in PAIRS for found in shown.values() for pair in found)
    assert all(int(src.split()[1]) % 2 == 0 for src, _ in shown["even"])


def test_another_seed_shows_others() -> None:
    assert without_ranks(collect(PAIRS, 1)) != without_ranks(collect(PAIRS, 2))


def test_equal_pairs_appear_once_and_few_all() -> None:
    examples = Examples(1)
    for src in ["a", "b", "a", "c", "b"]:
        examples.add("copy", line(src), line(src))
    assert sorted(without_ranks(examples.ranked())["copy"]) == [["a", "a"], ["b", "b"], ["c", "c"]]
    assert merged([]) == {} == Examples(1).ranked()


def test_long_and_odd_text_is_shown_readably() -> None:
    examples = Examples(1)
    examples.add("too_long", line("x" * 10_000), line(Unusable.INVALID_UTF8))
    examples.add("both", line(Unusable.TOO_LONG), line("short"))
    examples.add("control", line("a\0b\n\ud800"), line("\u202bשלום\u202c"))
    assert without_ranks(examples.ranked()) == {
        "too_long": [["x" * MAX_CHARACTERS + "...", "(not UTF-8)"]],
        "both": [["(far too long to read)", "short"]],
        "control": [["a\\x00b\\n\\ud800", "\\u202bשלום\\u202c"]],
    }


def test_rows_are_the_lowest_ranks_of_different_hashes() -> None:
    rows = np.arange(100, 400)
    hashes = np.random.default_rng(1).integers(0, 60, 300).astype(np.uint64)
    chosen = example_rows(rows, hashes, seed=4)
    assert len(chosen) == NUM_EXAMPLES and len({int(hashes[row - 100]) for row in chosen}) == NUM_EXAMPLES
    order = np.random.default_rng(2).permutation(300)
    again = example_rows(rows[order], hashes[order], seed=4)
    assert sorted(chosen.values()) == sorted(again.values())
    assert len(example_rows(rows[:3], hashes[:3], seed=4)) == len(set(hashes[:3].tolist()))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Thirty of each kind of bad pair for every filter that reads text, the rest by what the corpus holds."""
    folder = tmp_path_factory.mktemp("examples")
    spec = small_spec(folder, languages=("nso",), size=300)
    good = [(sentence(number), translate(sentence(number), "nso")) for number in range(300, 400)]
    bad = {
        "copy": [(f"Menu {text}", f"Menu {text}") for text, _ in good[:30]],
        "empty": [(text, " ") for text, _ in good[:30]],
        "no_letters": [(f"{text}", "...") for text, _ in good[:30]],
        "length_ratio": [(text, "A" * 300) for text, _ in good[:30]],
        "wrong_script": [(text, "Где аптека?") for text, _ in good[:30]],
        "duplicate": good[:30],
        "near_duplicate": [(src.upper(), tgt) for src, tgt in good[:30]],
        "held_out": [(sentence(number), "Ke a leboga.") for number in range(400, 430)],
        "too_many_pieces": [(" ".join("qwxzj"[n % 5] for n in range(70 + k)), "Jwalo " * 30) for k in range(12)],
    }
    lines = [*good, *(pair for pairs in bad.values() for pair in pairs)]
    spec["pairs"][0]["train"].append({
        "src": write_lines(folder / "more.src", [src for src, _ in lines]),
        "tgt": write_lines(folder / "more.tgt", [tgt for _, tgt in lines]),
    })  # fmt: skip
    spec["pairs"][0]["test"] = {
        "src": write_lines(folder / "test.src", [sentence(number) for number in range(400, 430)]),
        "tgt": write_lines(folder / "test.tgt", [translate(sentence(number), "nso") for number in range(400, 430)]),
    }
    spec["clean"] = {"max_pieces": 60}
    return prepare_spec(folder, spec, piece_size=150)


def test_every_filter_has_examples_of_what_it_dropped(corpus: Corpus) -> None:
    counts = read_report(corpus.path)["pairs"]["eng-nso"]["train"]
    examples = counts["examples"]
    assert set(examples) == set(counts["dropped"]) >= {
        "copy", "empty", "no_letters", "length_ratio", "wrong_script", "duplicate", "near_duplicate", "held_out",
        "too_many_pieces",
    }  # fmt: skip
    for reason, found in examples.items():
        number = counts["dropped"][reason]
        assert len({tuple(pair) for pair in found}) == len(found) == min(NUM_EXAMPLES, number), reason
    assert all(src == tgt for src, tgt in examples["copy"])
    assert all(tgt == " " for _, tgt in examples["empty"])
    assert all(src == src.upper() for src, _ in examples["near_duplicate"])
    assert {tuple(pair) for pair in examples["duplicate"]} <= {
        (sentence(number), translate(sentence(number), "nso")) for number in range(300, 330)
    }
    assert {src for src, _ in examples["held_out"]} <= {sentence(number) for number in range(400, 430)}


def test_report_file_and_manifest_count_the_same(corpus: Corpus) -> None:
    report = read_report(corpus.path)
    for split, counts in corpus.manifest["report"]["eng-nso"].items():
        found = report["pairs"]["eng-nso"][split]
        assert {name: value for name, value in found.items() if name not in ("examples", "kept")} == counts
        assert found["kept"] == corpus.manifest["splits"][split]["eng-nso"]["sentences"]
    train = report["pairs"]["eng-nso"]["train"]
    assert train["read"] == train["kept"] + train["moved"] + sum(train["dropped"].values())
    assert report["warnings"] == corpus.manifest["warnings"]
    text = format_examples(report)
    reason = "both sides are equal, and copies is drop or it is validation or test text"
    assert f"eng-nso train: copy: 30 dropped ({reason}), e.g.\n  Menu " in text


def test_a_report_that_changed_is_named(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"report.json: cannot be read \(Expecting.*--overwrite"):
        read_report(tmp_path)
    assert corpus.manifest["report_file"]["bytes"] == (corpus.path / "report.json").stat().st_size
