"""Pairs whose text cannot be used are all named at once, with their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smoe_ds.errors import DataError
from tests.helpers.prepared import prepare_spec, write_lines

CODES = ["nso", "cat", "msa", "tgl", "fur"]


def write_train(folder: Path, code: str, number: int) -> dict[str, str]:
    """Text of a pair with eng: sentences that differ in words."""
    words = [f"{'abcdefghij'[k // 10]}stone {'abcdefghij'[k % 10]}river" for k in range(number)]
    sides = {"src": "eng", "tgt": code}
    return {side: write_lines(folder / f"{code}.{name}", [f"{name} {word}" for word in words])
            for side, name in sides.items()}  # fmt: skip


def spec_of(train: dict[str, Any]) -> dict[str, Any]:
    pairs = [{"pair": f"eng-{code}", "train": source} for code, source in train.items()]
    return {"output": "corpus", "pairs": pairs, "sentencepiece": {"vocab_size": 400, "allow_smaller": True}}


@pytest.mark.parametrize("workers", [1, 2])
def test_misaligned_pairs(tmp_path: Path, workers: int) -> None:
    train = {code: write_train(tmp_path, code, 20) for code in CODES}
    for code in CODES[1:4]:
        with (tmp_path / train[code]["tgt"]).open("a", encoding="utf-8") as file:
            file.write("more\n")
    with pytest.raises(DataError) as caught:
        prepare_spec(tmp_path, spec_of(train), workers=workers, piece_size=5)
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [f"eng-{code} train" for code in CODES[1:4]]
    assert all("has 20 lines" in line and "has 21: they are not aligned beyond line 20" in line for line in lines)


def test_a_preparation_goes_on_when_they_are_mended(tmp_path: Path) -> None:
    train = {code: write_train(tmp_path, code, 100) for code in CODES}
    target = tmp_path / train["cat"]["tgt"]
    right = target.read_bytes()
    target.write_bytes(right + b"more\n")
    with pytest.raises(DataError, match="eng-cat train: "):
        prepare_spec(tmp_path, spec_of(train), piece_size=5)
    target.write_bytes(right)
    corpus = prepare_spec(tmp_path, spec_of(train), piece_size=5)
    assert [counts["train"]["read"] for counts in corpus.manifest["report"].values()] == [100] * 5


def test_pairs_with_nothing_left(tmp_path: Path) -> None:
    train = {code: write_train(tmp_path, code, 20) for code in CODES}
    for code in CODES[:2]:
        train[code] = {"src": write_lines(tmp_path / f"{code}.a", []), "tgt": write_lines(tmp_path / f"{code}.b", [])}
    with pytest.raises(DataError) as caught:
        prepare_spec(tmp_path, spec_of(train))
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        f"no sentence pairs in the train text of eng-{code}" for code in CODES[:2]
    ]
    train = {code: write_train(tmp_path, code, 20) for code in CODES[:3]}
    with pytest.raises(DataError) as caught:
        prepare_spec(tmp_path, spec_of(train) | {"clean": {"max_pieces": 1}})
    assert [line.split(": all exceed")[0] for line in str(caught.value).splitlines()] == [
        f"no sentence pairs in the train text of eng-{code}" for code in CODES[:3]
    ]


def test_files_that_break_off_while_they_are_read(tmp_path: Path) -> None:
    """Memory of a process is a file that is there, and whose first byte cannot be read."""
    train = {code: write_train(tmp_path, code, 20) for code in CODES[:2]}
    (tmp_path / "broken").symlink_to("/proc/self/mem")
    train["cat"]["src"] = "broken"
    with pytest.raises(DataError, match=rf"{tmp_path}/broken: cannot be read: Input/output error; copy"):
        prepare_spec(tmp_path, spec_of(train))
