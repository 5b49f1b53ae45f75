"""The benchmark of predicted against measured throughput runs, and its rows hold together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.scaling import main


@pytest.mark.multirank
def test_small_runs_on_one_and_two_ranks(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    short = ["--rounds", "1", "--steps", "5", "--repeats", "1"]
    small = ["--d-model", "32", "--tokens", "256", "--strata", "2", "2"]
    main(["--ranks", "1", "2", *short, *small, "--json", str(file)])
    rows = json.loads(file.read_text())
    assert [row["ranks"] for row in rows] == [1, 2, 2]
    main_figures = {"predicted_ms", "measured_ms", "median_ms"}
    for row in rows:
        parts = [value for name, value in row.items() if name.endswith("_ms") and name not in main_figures]
        assert sum(parts) == pytest.approx(row["predicted_ms"])
        assert 0 < row["measured_ms"] <= row["median_ms"] * (1 + 1e-9)


def test_data_of_invented_pairs() -> None:
    (row,) = main(["--data", "3000"])
    assert row["draw_per_second"] > 0 < row["read_per_second"]
    assert 0.5 < row["padded_share"] <= 1 and 0.5 < row["real_share"] <= 1
