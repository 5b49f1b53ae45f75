"""The benchmark of whole systems trains them, and counts what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from smoe_ds.config import load_run
from smoe_ds.errors import ConfigError
from smoe_ds.planning.systems import SYSTEMS
from tests.benchmarks.throughput import cost, flops_per_token, runs_of
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


def test_every_system_of_the_plan_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At the sizes of M4 they have the FLOPs of the paper's table."""
    file, overrides = str(ROOT / "ds_configs/m4.json"), ["smoe.moe.strata=[4,4]"]
    runs = runs_of(["all", "2-2-2-2"], file, overrides, tmp_path)
    left_out = [line.split(": ")[1] for line in capsys.readouterr().out.splitlines()]
    assert left_out == ["clsr"] and len(runs) + len(left_out) == len(SYSTEMS) + 1
    assert len({run.smoe.train.output_dir for run in runs.values()}) == len(runs)
    dense = cost(runs["dense"], 32000)
    found = {name: cost(runs[name], 32000) / dense for name in ("vanilla", "smoe", "2-2-2-2", "switch-transformer")}
    assert found == pytest.approx(
        {"vanilla": 1.15, "smoe": 1.30, "2-2-2-2": 1.48, "switch-transformer": 1.0}, abs=0.005
    )


def test_a_system_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--systems swich: is none of all, dense, .*or strata such as 4-4"):
        runs_of(["swich"], str(ROOT / "ds_configs/m4.json"), [], tmp_path)


@pytest.mark.multirank
def test_systems_race(tmp_path: Path, corpus_folder: Path) -> None:
    file, rows_file = write_run(tmp_path / "run.json", small_run(tmp_path / "run", corpus_folder)), tmp_path / "rows"
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.throughput",
        str(file),
        "--systems",
        "dense",
        "4-4",
        "switch-transformer",
    ]
    command += ["--steps", "2", "--rounds", "2", "--json", str(rows_file)]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    rows = json.loads(rows_file.read_text())
    assert [row["system"] for row in rows] == ["dense", "4-4", "switch-transformer"] and rows[0]["over_first"] == 1
    assert [row["time_over_flops"] * row["flops"] * row["over_first"] for row in rows] == pytest.approx([1.0] * 3)
    assert all(row["tokens_per_s"] > 0 and 0 <= row["waits_for_data"] < 1 for row in rows)
