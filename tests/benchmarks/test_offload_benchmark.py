"""The benchmark of offload runs, and moves to the host what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.offload import main


@pytest.mark.multirank
def test_offload_benchmark(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    arguments = ["--ranks", "1", "2", "--width", "32", "--tokens", "32", "--repeats", "1", "--json", str(file)]
    main([*arguments, "--engines", "without", "torch"])
    rows = json.loads(file.read_text())
    assert [(row["ranks"], row["offload"]) for row in rows] == [
        (n, name) for n in (1, 2) for name in ("without", "torch")
    ]
    for plain, moved in zip(rows[::2], rows[1::2], strict=True):
        assert moved["device_weights"] == plain["device_weights"] > 0
        assert (plain["host_MiB"], moved["device_optimizer"], moved["device_master_weights"]) == (0, 0, 0)
        states = plain["device_master_weights"] + plain["device_optimizer"]
        assert states == pytest.approx(
            12 / 4 * plain["device_weights"] / plain["ranks"], rel=0.5
        )  # experts are not split
        assert moved["host_MiB"] > states
        assert moved["device_MiB"] < plain["device_MiB"] - states / 2
        assert (plain["wall_over_without"], plain["update_over_without"]) == (1, 1)
        assert min(moved["wall_over_without"], moved["update_over_without"], moved["processor_over_without"]) > 0


def test_plans_of_the_recipes(tmp_path: Path) -> None:
    rows = main(["--plan", "m15", "--ranks", "8"])
    plain, moved = rows
    assert (plain["engine"], moved["engine"]) == ("v100_fp16_zero1", "v100_fp16_zero2_offload")
    assert moved["device_GiB"] < plain["device_GiB"]
    assert moved["optimizer_GiB"] == 0 < plain["optimizer_GiB"] < moved["host_GiB"]
