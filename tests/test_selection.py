"""Which tests run by default, with ``--all``, side by side and alone: on a small tree of tests, and on this one."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.environment import ROOT

CONFTEST = """
from tests import selection
from tests.selection import pytest_addoption, pytest_collection_modifyitems, pytest_report_header

selection.SLOW = {"reason": SLOW}
selection.GRIDS = GRIDS
selection.ALONE = {"reason": ALONE}
selection.ASKED = {"reason": ASKED}
"""
TESTS = {
    "one/test_a.py": """
import pytest

def test_quick(): pass
def test_named(): pass
def test_name(): pass
@pytest.mark.slow
def test_marked(): pass
""",
    "one/test_b.py": """
import pytest

@pytest.mark.parametrize("x", range(2))
@pytest.mark.parametrize(("y", "z"), [(0, 0), (1, 1), (2, 2)])
def test_grid(x, y, z): pass
@pytest.mark.slurm
def test_cluster(): pass
""",
    "two/test_c.py": "def test_alone(): pass",
}


def collected(
    folder: Path,
    *arguments: str,
    slow: tuple[str, ...] = ("one/test_a.py::test_named",),
    grids: tuple[str, ...] = ("one/test_b.py::test_grid",),
    alone: tuple[str, ...] = ("two",),
    asked: tuple[str, ...] = (),
) -> subprocess.CompletedProcess[str]:
    """What pytest says it would run of the small tree."""
    for name, text in TESTS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    tables = CONFTEST.replace("SLOW}", f"{slow}}}").replace("= GRIDS", f"= {grids}").replace("ALONE}", f"{alone}}}")
    tables = tables.replace("ASKED}", f"{asked}}}")
    (folder / "conftest.py").write_text(tables)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow: x\n    slurm: x\n    netns: x\n    alone: x\n")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def names(done: subprocess.CompletedProcess[str]) -> set[str]:
    assert done.returncode == 0, done.stdout + done.stderr
    return {line.partition("::")[2].removeprefix("test_") for line in done.stdout.splitlines() if "::" in line}


GRID = {f"grid[{y}-{y}-{x}]" for y, x in itertools.product(range(3), range(2))}
DIAGONAL = {"grid[0-0-0]", "grid[1-1-1]", "grid[2-2-0]"}


def test_by_default_what_is_slow_is_left_out_and_of_grids_all_but_the_diagonal(tmp_path: Path) -> None:
    assert names(collected(tmp_path)) == {"quick", "name", "cluster", "alone"} | DIAGONAL
    assert names(collected(tmp_path, "one/test_a.py")) == {"quick", "name"}


def test_what_is_run_only_if_asked_for_is_named_itself(tmp_path: Path) -> None:
    asked = ("one/test_a.py::test_marked",)
    assert "marked" not in names(collected(tmp_path, "--all", "one/test_a.py", asked=asked))
    assert names(collected(tmp_path, *asked, asked=asked)) == {"marked"}
    file = ("one/test_a.py",)
    assert names(collected(tmp_path, "--all", asked=file)).isdisjoint({"quick", "name", "named", "marked"})
    assert names(collected(tmp_path, *file, asked=file)) == {"quick", "name", "named", "marked"}
    assert names(collected(tmp_path, "one/test_a.py::test_name", asked=file)) == {"name"}


def test_all_is_all(tmp_path: Path) -> None:
    every = {"quick", "name", "named", "marked", "cluster", "alone"} | GRID
    assert names(collected(tmp_path, "--all")) == every
    assert names(collected(tmp_path, "--all", "one/test_a.py")) == {"quick", "name", "named", "marked"}
    turns = [names(collected(tmp_path, "--all", "--turn", turn)) for turn in ("together", "alone")]
    assert turns == [every - {"cluster", "alone"}, {"cluster", "alone"}]


@pytest.mark.parametrize("table", ["slow", "grids", "alone"])
def test_a_name_that_no_test_has_ends_the_run(tmp_path: Path, table: str) -> None:
    done = collected(tmp_path, **{table: ("one/test_a.py::test_nam",)})
    assert done.returncode == 4
    assert "one/test_a.py::test_nam: no test has this name; correct it or take it out" in done.stdout + done.stderr


def test_a_folder_without_a_quick_test_ends_the_run(tmp_path: Path) -> None:
    done = collected(tmp_path, slow=("two/test_c.py",))
    assert done.returncode == 4
    assert "two are slow; let one of them run by default" in done.stdout + done.stderr
