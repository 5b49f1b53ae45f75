"""The benchmark of loaders runs, and its figures are of the kind they claim to be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.data_corpus import open_pairs, write_pairs
from tests.benchmarks.data_peers import MAX_TOKENS, Stream
from tests.helpers.environment import ROOT
from tests.helpers.prepared import small_corpus


def test_the_stream_through_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.data", "--loaders", "stream", "--sentences", "5000"]
    command += ["--seconds", "0.2", "--repeats", "1", "--json", str(tmp_path / "rows.json")]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=True)
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert "tokens/s/core" in done.stdout
    assert row["tokens/s/core (M)"] > 0.5
    assert 0.9 < row["packing"] <= 1
    assert all(0 < row[f"resume at {step} (s)"] < 30 for step in (10, 10_000, 1_000_000))
    assert 0 < row["without torch (MiB)"] < row["resident (MiB)"]


@pytest.mark.parametrize("prepared", [False, True])
def test_pairs_invented_and_prepared(tmp_path: Path, prepared: bool) -> None:
    if prepared:
        pairs = open_pairs(small_corpus(tmp_path).path)
        assert set(pairs.sentences()) == {"eng-nso", "nso-eng", "eng-cat", "cat-eng"}
    else:
        pairs = write_pairs(tmp_path, 2000)
        assert len(pairs.sentences()) == 188
    loader = Stream(pairs, tmp_path)
    loader.prepare(500)
    first = next(iter(loader.batches(500)))
    assert 0 < first.tokens <= first.padded <= MAX_TOKENS
    assert all(tensor.shape[0] == len(first.tensors[0]) for tensor in first.tensors)
