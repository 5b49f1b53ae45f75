"""The benchmark of experts' first updates: what it tells of one network by hand, and of systems on a small corpus."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from smoe_ds.moe.experts import ExpertFFN
from tests.benchmarks.first_updates import Watched
from tests.helpers.environment import ROOT
from tests.helpers.small_run import small_run, write_run


def test_norms_of_one_network_by_hand() -> None:
    torch.manual_seed(3)
    network, x = ExpertFFN(4, 6).double(), torch.randn(2, 5, 4, dtype=torch.float64)
    network.initialize("one", how="xavier")
    watched = Watched(network)
    weights = {name: getattr(network, name).detach().clone() for name in ("w1", "w2")}
    y = network(x)
    y.square().sum().backward()
    gradients = {name: getattr(network, name).grad for name in weights}
    torch.optim.SGD(network.parameters(), lr=0.25).step()
    assert watched.rows == 10
    assert watched.output == pytest.approx(sum(float(row.norm()) for row in y.detach().reshape(10, 4)))
    squares = sum(float(g.square().sum()) for g in gradients.values() if g is not None)
    assert squares > 0 and watched.gradient == pytest.approx(squares)
    assert watched.size() == pytest.approx(sum(float(w.square().sum()) for w in weights.values()) ** 0.5)
    assert watched.update() == pytest.approx(0.25 * squares**0.5)
    watched.clear()
    assert (watched.rows, watched.output, watched.gradient, watched.update()) == (0, 0.0, 0.0, 0.0)


def test_systems_of_a_small_run(tmp_path: Path, corpus_folder: Path) -> None:
    run = small_run(tmp_path / "run", corpus_folder)
    run["smoe"]["moe"] |= {"expert_init": "zero"}
    run["smoe"]["model"] |= {"ffn_init": "zero"}
    file, rows_file = write_run(tmp_path / "run.json", run), tmp_path / "rows"
    command = [sys.executable, "-m", "tests.benchmarks.first_updates", str(file), "--systems", "dense", "vanilla"]
    command += ["--steps", "2", "--at", "1", "2", "--json", str(rows_file)]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    rows = json.loads(rows_file.read_text())
    assert [(row["system"], row["step"]) for row in rows] == [(s, n) for s in ("dense", "vanilla") for n in (1, 2)]
    for first, second in (rows[:2], rows[2:]):
        assert first["output"] == 0 < second["output"], "the last matrices start at 0"
        assert first["gradient"] > 0 and second["gradient"] > 0 and first["update"] > 0
    assert rows[0]["busiest"] == 1 < rows[2]["busiest"]
