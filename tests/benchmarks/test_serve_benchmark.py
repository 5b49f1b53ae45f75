"""The benchmark of the service floods it and compares."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from tests.benchmarks.serve import main


@pytest.mark.slow
def test_serve_benchmark(run_dir: Path) -> None:
    one, more = main(["--run", str(run_dir), "--lines", "12", "--in-flight", "1", "4", "--rounds", "1"])
    assert (one["in flight"], more["in flight"]) == (1, 4)
    assert all(row["of batch"] > 0 and row["p50 (ms)"] <= row["p95 (ms)"] for row in (one, more))
