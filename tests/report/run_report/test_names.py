"""Runs of a report have short names that differ."""

from pathlib import Path

import pytest

from smoe_ds.errors import DataError
from smoe_ds.report.run_report.names import run_names


def test_names_are_short_and_differ() -> None:
    assert run_names([Path("/x/runs/a"), Path("/x/runs/b")]) == ["a", "b"]
    assert run_names([Path("/x/a/run"), Path("/x/b/run")]) == ["a/run", "b/run"]
    assert run_names([Path("/r/checkpoints/step_1"), Path("/r/checkpoints/step_2")]) == ["step_1", "step_2"]
    assert run_names([Path("/a"), Path("/x/a")]) == ["/a", "x/a"]
    assert run_names([Path.cwd() / "a" / ".." / "b"]) == ["b"]


def test_the_same_run_twice() -> None:
    with pytest.raises(DataError, match="is named twice; name each run once"):
        run_names([Path("a"), Path.cwd() / "a"])
