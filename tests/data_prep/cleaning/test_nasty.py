"""Hostile files: each has a clear outcome, an error that names file and place, or a count."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.spec.sections import Spec
from smoe_ds.errors import DataError
from tests.helpers.nasty_files import CASES, ENG, MSA, Nasty, joined
from tests.helpers.prepared import prepare_spec, read_texts


def _spool(
    folder: Path, case: Nasty, split: str = "train", piece_size: int = 1000
) -> tuple[list[str], list[str], dict[str, Any]]:
    for name, data in (("src", case.src), ("tgt", case.tgt)):
        (folder / (name + case.suffix)).write_bytes(data)
    source = [{"src": f"src{case.suffix}", "tgt": f"tgt{case.suffix}"}]
    spec = Spec.model_validate(
        {"output": "x", "pairs": [{"pair": "eng-msa", "train": source, split: source}], "clean": case.clean}
    )
    spools, counts = read_texts(spec, folder, folder / f"work{piece_size}", piece_size)
    spool = spools["eng-msa", split]
    src, tgt = (list(map(bytes.decode, spool.lines(side, np.ones(sum(spool.sizes), bool)))) for side in (0, 1))
    return src, tgt, counts["eng-msa", split]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.error])
def test_counted(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    src, tgt, counts = _spool(tmp_path, case)
    assert len(src) == len(tgt) == case.kept
    assert (counts["dropped"], counts["noticed"]) == (case.dropped, case.noticed)
    assert counts["read"] == case.kept + sum(case.dropped.values())
    forbidden = set("\0\r\t\v\f\x85\u2028\u2029\ufeff")
    assert not any(forbidden & set(line) or line != line.strip() for line in [*src, *tgt])
    assert _spool(tmp_path, case, piece_size=2) == (src, tgt, counts)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.error])
def test_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=CASES[name].error):
        _spool(tmp_path, CASES[name])


@pytest.mark.parametrize(
    ("name", "line"),
    [("NUL bytes", "The house is small."), ("CRLF", ENG[0]), ("byte order mark", ENG[0]),
     ("U+2028 inside", ENG[0]), ("tabs inside", "The house is small."), ("surrogates", "Noncharacter in text.")],
)  # fmt: skip
def test_what_is_left_of_the_first_line(tmp_path: Path, name: str, line: str) -> None:
    assert _spool(tmp_path, CASES[name])[0][0] == line


def test_the_first_invalid_line_is_named(tmp_path: Path) -> None:
    counts = _spool(tmp_path, CASES["invalid UTF-8"])[2]
    assert counts["places"] == ["src: first line that is not UTF-8: line 1, byte offset 15 (0xff)"]


def test_the_first_line_that_is_too_long_to_be_read_is_named(tmp_path: Path) -> None:
    lines = [ENG[0], "ü" * 3_000_000, ENG[1], "x" * 5_000_000]
    _, _, counts = _spool(tmp_path, Nasty(joined(lines), joined([MSA[0], "y", MSA[1], "z" * 4_194_304])))
    assert counts["dropped"] == {"too_long": 2}
    offsets = [len(joined(lines[:1])), len(joined([MSA[0], "y", MSA[1]]))]
    assert counts["places"] == [
        f"src: first line of 4 MiB or more: line 2, byte offset {offsets[0]}",
        f"tgt: first line of 4 MiB or more: line 4, byte offset {offsets[1]}",
    ]
    shown = [pair[1:] for pair in counts["examples"]["too_long"]]
    assert sorted(shown) == [
        ["(far too long to read)", "(far too long to read)"],
        ["(far too long to read)", "y"],
    ]


def test_given_held_out_text_is_not_thinned_out(tmp_path: Path) -> None:
    case = Nasty(joined(["Yes.", ENG[0], ENG[0], "", "word " * 251]), joined([MSA[2] * 5, MSA[0], MSA[0], "x", "y"]))
    src, _, counts = _spool(tmp_path, case, split="test")
    assert src == ["Yes.", ENG[0], ENG[0]] and counts["dropped"] == {"empty": 1, "too_long": 1}


@pytest.mark.parametrize("copies", ["drop", "keep"])
@pytest.mark.parametrize("split", ["valid", "test"])
def test_no_sentence_is_its_own_translation_in_given_held_out_text(tmp_path: Path, copies: str, split: str) -> None:
    case = Nasty(joined(ENG), joined([*MSA[:3], ENG[3], f"{ENG[4]} "]), clean={"copies": copies})
    src, _, counts = _spool(tmp_path, case, split=split)
    assert src == ENG[:3] and counts["dropped"] == {"copy": 2}


def test_memory_does_not_grow_with_a_line_of_30_mb(tmp_path: Path) -> None:
    data = joined([ENG[0]]) + b"x" * 30_000_000 + b"\n" + joined([ENG[1]])
    case = Nasty(data, joined([MSA[0], "y", MSA[1]]))
    del data
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    src, *_ = _spool(tmp_path, case)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert len(src) == 2 and peak < 20_000_000


def test_duplicates_are_counted_and_dropped(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(joined(ENG * 11))
    (tmp_path / "b").write_bytes(joined(MSA * 11))
    spec: dict[str, Any] = {
        "output": "out",
        "pairs": [{"pair": "eng-msa", "train": [{"src": "a", "tgt": "b"}]}],
        "sentencepiece": {"vocab_size": 330, "allow_smaller": True, "num_threads": 1},
    }
    manifest = prepare_spec(tmp_path, spec).manifest
    assert manifest["report"]["eng-msa"]["train"]["dropped"] == {"duplicate": 50}
    assert manifest["splits"]["train"]["eng-msa"]["sentences"] == 5
    assert any("dropped as duplicate 91% (50 of 55 pairs)" in text for text in manifest["warnings"])
    spec = spec | {"output": "kept", "clean": {"duplicates": "keep"}}
    manifest = prepare_spec(tmp_path, spec).manifest
    assert manifest["splits"]["train"]["eng-msa"]["sentences"] == 55
    assert manifest["report"]["eng-msa"]["train"]["noticed"]["duplicates"] == 50


@pytest.mark.parametrize("name", ["special token text", "one pair only", "source equals target", "a line of 1 MB"])
def test_prepared_to_the_end(tmp_path: Path, name: str) -> None:
    """Through SentencePiece and the shards: no crash, no control token from text, no pair lost."""
    case = CASES[name]
    (tmp_path / "a").write_bytes(case.src)
    (tmp_path / "b").write_bytes(case.tgt)
    corpus = prepare_spec(tmp_path, {
        "output": "out",
        "pairs": [{"pair": "eng-msa", "train": [{"src": "a", "tgt": "b"}]}],
        "clean": case.clean,
        "sentencepiece": {"vocab_size": 340, "allow_smaller": True, "num_threads": 1},
    })  # fmt: skip
    sentences = corpus.sentences("train", "eng-msa")
    ids = {int(token) for number in range(len(sentences)) for side in sentences[number] for token in side}
    control = {0, 1, 2, 3} | {corpus.tokenizer.language_id(language) for language in corpus.languages}
    assert len(sentences) == case.kept and ids and not ids & control
    if name == "source equals target":
        assert any("copies 100% (5 of 5 pairs)" in text for text in corpus.manifest["warnings"])


@pytest.mark.parametrize("name", ["empty files", "length ratio"])
def test_no_sentence_pairs(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").write_bytes(CASES[name].src)
    (tmp_path / "b").write_bytes(CASES[name].tgt)
    spec = {"output": "out", "pairs": [{"pair": "eng-msa", "train": [{"src": "a", "tgt": "b"}]}]}
    with pytest.raises(DataError, match=r"no sentence pairs in the train text of eng-msa: \d read, "):
        prepare_spec(tmp_path, spec)
    assert not (tmp_path / "out").exists()
