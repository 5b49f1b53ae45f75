"""The benchmark of whole systems trains them, and counts what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from smoe_ds.config import load_run
from tests.benchmarks.throughput import flops_per_token
from tests.helpers.environment import ROOT
from tests.helpers.small_run import small_run, write_run


def test_flops_of_a_step_by_hand(tmp_path: Path, corpus_folder: Path) -> None:
    """Per token of a side: attention of encoder and decoder, a dense network and experts; V twice as wide as half."""
    run = small_run(tmp_path / "run", corpus_folder)
    run["smoe"]["moe"] = {"strata": [4], "top_k": 2, "every": 2}
    run["smoe"]["model"] |= {"d_model": 32, "d_ffn": 48, "encoder_layers": 2, "decoder_layers": 2}
    d, ffn, vocab = 32, 2 * 32 * 48, 1000
    weights = 2 * (4 * d * d) + 2 * (8 * d * d)  # projections of both sides
    weights += 2 * ffn + 2 * 2 * ffn  # a dense network and two experts a side
    weights += d * vocab + 2 * 4 * d  # the vocabulary, the gates
    found = flops_per_token(load_run(write_run(tmp_path / "run.json", run)), vocab)
    assert found == pytest.approx(3 * 2 * weights / 2, rel=0.02)


@pytest.mark.multirank
def test_systems_race(tmp_path: Path, corpus_folder: Path) -> None:
    file, rows_file = write_run(tmp_path / "run.json", small_run(tmp_path / "run", corpus_folder)), tmp_path / "rows"
    command = [sys.executable, "-m", "tests.benchmarks.throughput", str(file), "--systems", "dense", "4-4"]
    command += ["--steps", "2", "--rounds", "2", "--json", str(rows_file)]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    rows = json.loads(rows_file.read_text())
    assert [row["system"] for row in rows] == ["dense", "4-4"] and rows[0]["over_first"] == 1
    assert all(row["tokens_per_s"] > 0 and 0 <= row["waits_for_data"] < 1 for row in rows)
