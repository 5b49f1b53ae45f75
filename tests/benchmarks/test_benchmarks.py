"""The benchmarks run, and count and measure what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from smoe_ds.data.corpus import Corpus
from smoe_ds.parallel.ports import free_port
from tests.benchmarks.measure import peak_memory
from tests.benchmarks.threads import WAYS
from tests.helpers.environment import ROOT, own_environment
from tests.helpers.hosts import why_not
from tests.helpers.random_run import random_run
from tests.helpers.ranks import run_ranks
from tests.helpers.small_run import small_run, write_run


def run(module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


def test_peak_memory_of_a_known_chain() -> None:
    def chain() -> None:
        a = torch.zeros(1 << 20)  # 4 MiB
        b = a + 1  # 8 MiB held
        del a
        c = b * 2  # 8 MiB held again
        del b, c

    assert peak_memory(chain, torch.device("cpu")) == pytest.approx(8 << 20, rel=0.01)


def distance_to_the_twin(rank: int, world_size: int) -> float:
    from tests.benchmarks.layer import deepspeed_twin, make
    from tests.helpers.layers import change_settings

    layer, x, _ = make("m4", [4], 64, torch.device("cpu"), torch.float32)
    change_settings(layer, capacity_factor=None)
    twin = deepspeed_twin(layer, drop=False)
    with torch.no_grad():
        return (layer(x)[0] - (x + twin(layer.norms[0](x))[0])).abs().max().item()


@pytest.mark.multirank
def test_deepspeeds_layer_in_the_benchmark_computes_the_same() -> None:
    assert run_ranks(distance_to_the_twin, 1, init=False)[0] < 1e-5


@pytest.mark.multirank
def test_layer_benchmark(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    out = run("layer", "--width", "m4", "--tokens", "64", "--repeats", "2", "--strata", "8", "--json", str(file))
    rows = json.loads(file.read_text())
    assert [row["case"] for row in rows] == ["balanced", "skewed"]
    assert rows[1]["skew"] == pytest.approx(3, rel=0.1)
    assert rows[1]["rows"] == 128
    assert "over_floor" in out


def test_growth_benchmark(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    run("growth", "--tokens", "32", "--experts", "4", "--repeats", "1", "--json", str(file))
    rows = json.loads(file.read_text())
    assert [row["tokens"] for row in rows if row["grows"] == "tokens"] == [8, 16, 32, 64, 128]
    assert [row["strata"] for row in rows if row["grows"] == "experts"] == ["2", "4", "8", "16"]
    assert [row["strata"] for row in rows if row["grows"] == "strata"] == ["4", "2-2"]


def test_analyze_benchmark(tmp_path: Path, corpus_folder: Path) -> None:
    run_dir = random_run(tmp_path, Corpus(corpus_folder))
    run("analyze", str(run_dir), "--limit", "1", "--repeats", "1", "--json", str(tmp_path / "rows.json"))
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["pass"] for row in rows] == ["forward", "counts", "analysis"] and rows[0]["median"] == 1
    assert all(row["seconds"] > 0 for row in rows)


@pytest.mark.multirank
def test_panels_benchmark(tmp_path: Path, corpus_folder: Path) -> None:
    file = tmp_path / "rows.json"
    run_file = write_run(tmp_path / "run.json", small_run(tmp_path / "run", corpus_folder))
    run("panels", str(run_file), "--steps", "2", "--rounds", "2", "--json", str(file))
    rows = json.loads(file.read_text())
    assert [row["training"] for row in rows] == ["plain", "panels"] and rows[0]["median"] == 1
    assert all(row["round_s"] > 0 for row in rows)


@pytest.mark.multirank
def test_exchange_benchmark(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    run("exchange", "--tokens", "256", "--ep-size", "2", "--json", str(file))
    rows = {row["system"]: row for row in json.loads(file.read_text())}
    assert rows["8"]["row_bytes"] == rows["8"]["needed_bytes"]
    assert rows["2-2-2-2"]["own_bytes"] == 0
    assert rows["DeepSpeed MoE"]["with_own"] > 1.5


@pytest.mark.multirank
def test_overlap_benchmark(tmp_path: Path) -> None:
    if problem := why_not():
        pytest.skip(problem)
    file = tmp_path / "rows.json"
    arguments = ["--tokens", "256", "--chunks", "1", "4", "--mbit", "30", "--repeats", "2", "--json", str(file)]
    run("overlap", *arguments)
    rows = {row["chunks"]: row for row in json.loads(file.read_text())}
    assert rows[1]["over_1"] == 1
    # A rank sends half of 512 rows of 2 KB four times, 2 MB: half a second at 30 Mbit/s.
    assert rows[1]["pass_ms"] > rows[1]["alone_ms"] + 250
    left = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert "smoe-" not in left


@pytest.mark.multirank
@pytest.mark.netns
def test_link_benchmark(tmp_path: Path) -> None:
    if problem := why_not():
        pytest.skip(problem)
    file = tmp_path / "rows.json"
    run("link", "--tokens", "128", "--mbit", "100", "--repeats", "1", "--json", str(file))
    rows = {(row["case"], row["system"]): row for row in json.loads(file.read_text())}
    # Of both ranks' 256 rows of 2 KB half travel, four times each; 1.048576 MB of each rank.
    compact, padded = rows["skewed", "compact"], rows["skewed", "padded"]
    assert compact["MB_sent"] == pytest.approx(2 * 1.049, rel=0.2)
    assert padded["MB_sent"] > 2 * compact["MB_sent"]  # every expert as large as the busiest one
    assert rows["balanced", "padded"]["MB_sent"] > rows["balanced", "compact"]["MB_sent"]
    left = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert "smoe-" not in left


@pytest.mark.multirank
def test_prepare_benchmark(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    run("prepare", "--megabytes", "1", "--repeats", "1", "--vocab-size", "500", "--workers", "2", "--json", str(file))
    rows = {row["what"]: row for row in json.loads(file.read_text())}
    assert rows["bare"]["of_bare"] == rows["bare"]["of_bare_cpu"] == 1
    stages = ("hash", "read and clean", "split", "vocabulary", "encode", "write")
    assert 0 < sum(rows[name]["seconds"] for name in stages) < rows["whole"]["seconds"]
    assert rows["whole"]["cpu_seconds"] > rows["bare"]["cpu_seconds"] > 0
    assert 0.5 < rows["whole"]["MB"] < 2


@pytest.mark.slow
def test_threads_benchmark() -> None:
    rows = run("threads", "--threads", "2", "--seconds", "0.2", "--repeats", "1", "--width", "16").splitlines()[3:]
    ways = ["1 thread", *(f"2 threads, {name}" for name in WAYS)]
    assert [row.split("|")[1].strip() for row in rows] == ways
    assert rows[0].split("|")[2].strip() == "1.00"
    assert all(float(cell) > 0 for row in rows for cell in row.split("|")[2:4])


@pytest.mark.multirank
def test_collectives_benchmark(tmp_path: Path, corpus_folder: Path) -> None:
    """Two ranks, two blocks of two strata: five all-to-alls a stratum and pass; the last of three steps counts."""
    configuration = small_run(tmp_path / "run", corpus_folder)
    configuration["smoe"]["moe"] |= {"ep_size": 2, "every": 2}
    file, rows_file = write_run(tmp_path / "run.json", configuration), tmp_path / "rows"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += ["--master_port", str(free_port()), "-m", "tests.benchmarks.collectives", str(file)]
    command += ["--steps", "1", "--warm-up", "2"]
    environment = {**own_environment(), "TMPDIR": str(tmp_path)}
    subprocess.run([*command, "--json", str(rows_file)], cwd=ROOT, env=environment, capture_output=True, check=True)
    rows = {row["collective"]: row for row in json.loads(rows_file.read_text())}
    assert rows["all_to_all_single"]["per_step"] == 2 * 2 * 5
    assert rows["all_reduce"]["per_step"] >= 1
    for row in rows.values():
        assert row["KB_per_step"] > 0 and 0 < row["of_step"] < 1 and row["when_ready_ms"] > 0
