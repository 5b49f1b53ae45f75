"""A corpus that is damaged, missing or lacks what the run wants."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from smoe_ds.doctor.corpus import check_corpus
from smoe_ds.doctor.finding import FAILED, OK
from tests.helpers.doctors import alone


@pytest.fixture
def own_run(run_file: Path, own_corpus: Path) -> Path:
    """The run on a corpus of its own."""
    return changed(run_file, path=str(own_corpus))


def changed(run_file: Path, **data: Any) -> Path:
    run = json.loads(run_file.read_text())
    run["smoe"]["data"] |= data
    run_file.write_text(json.dumps(run))
    return run_file


def test_in_order(run_file: Path) -> None:
    for full, how in ((False, "sizes are as written"), (True, "every byte is as written")):
        whole, directions = alone(run_file, check_corpus, full=full)
        assert whole.mark == directions.mark == OK
        assert how in whole.text
        assert directions.text == "4 directions to train, 3 languages, a vocabulary of 360"


def test_truncated_shard(own_run: Path, own_corpus: Path) -> None:
    shard = next(own_corpus.glob("train/*/*.bin"))
    shard.write_bytes(shard.read_bytes()[:-2])
    (line,) = alone(own_run, check_corpus)
    assert line.mark == FAILED and f"{shard}: truncated" in line.text and "restore the file" in line.remedy


def test_a_changed_bit_is_found_by_reading_all(own_run: Path, own_corpus: Path) -> None:
    shard = next(own_corpus.glob("train/*/*.bin"))
    content = bytearray(shard.read_bytes())
    content[10] ^= 1
    shard.write_bytes(content)
    assert {line.mark for line in alone(own_run, check_corpus)} == {OK}
    first, *_ = alone(own_run, check_corpus, full=True)
    assert first.mark == FAILED and f"{shard}: content changed" in first.text


def test_no_corpus_and_no_tokenizer(own_run: Path, own_corpus: Path) -> None:
    (own_corpus / "tokenizer.model").unlink()
    (line,) = alone(own_run, check_corpus)
    assert line.mark == FAILED and "tokenizer.model" in line.text
    shutil.rmtree(own_corpus)
    (line,) = alone(own_run, check_corpus)
    assert line.mark == FAILED and "missing" in line.text and "or correct smoe.data.path" in line.remedy


def test_a_direction_it_does_not_have(run_file: Path) -> None:
    whole_or_not = alone(changed(run_file, directions=["eng-nso", "eng-xxx"]), check_corpus)
    (line,) = [line for line in whole_or_not if line.mark == FAILED]
    assert "no direction 'eng-xxx'" in line.text
    _, line = alone(changed(run_file, directions=["eng-nso"]), check_corpus)
    assert line.mark == OK and line.text.startswith("1 directions")
