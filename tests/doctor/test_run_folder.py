"""A run folder that is full, cannot be written, has no inodes left, or is fine; nothing stays in it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from smoe_ds.doctor.finding import FAILED, NOTE, OK
from smoe_ds.doctor.run_folder import check_run_folder, folder_made, space_finding
from tests.helpers.disks import resize, small_disk
from tests.helpers.doctors import alone


def test_in_order_and_nothing_left(run_file: Path, tmp_path: Path) -> None:
    with folder_made(tmp_path / "run"):
        written, space = alone(run_file, check_run_folder)
        assert list((tmp_path / "run").iterdir()) == []
    assert written.mark == space.mark == OK
    assert "wrote 1.0 MiB" in written.text and "for 4 checkpoints" in space.text
    assert not (tmp_path / "run").exists()


def test_folders_that_were_there_or_came_into_use_stay(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with folder_made(tmp_path / "old/new/newest"):
        (tmp_path / "old/new/file").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "new", "old"]


def test_full_disk(run_file: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "run", "64k"):
        (line,) = alone(run_file, check_run_folder)
        assert line.mark == FAILED and "No space left on device" in line.text and "quota" in line.remedy
        resize(tmp_path / "run", "2m")  # enough to try it out, not for checkpoints
        written, space = sorted(alone(run_file, check_run_folder), key=lambda line: line.mark == FAILED)
        assert (written.mark, space.mark) == (OK, FAILED)
        assert "for 4 checkpoints" in space.text and "keep_last" in space.remedy


def test_read_only(run_file: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "run", "8m"):
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "run")], check=True)
        (line,) = alone(run_file, check_run_folder)
    assert line.mark == FAILED and "Read-only file system" in line.text


def test_a_file_in_its_place(run_file: Path, tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    (line,) = alone(run_file, check_run_folder)
    assert line.mark == FAILED and "File exists" in line.text


def test_no_inodes(run_file: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "run", "64m,nr_inodes=10"):
        written, space = sorted(alone(run_file, check_run_folder), key=lambda line: line.mark == FAILED)
    assert (written.mark, space.mark) == (OK, FAILED)
    assert "16 files for 4 checkpoints, 9 inodes free" in space.text


def test_without_a_limit_of_inodes() -> None:
    assert space_finding(1, 2, 10**9, None, Path("x"), "it").mark == OK


def test_checkpoints_that_are_there_count(run_file: Path, tmp_path: Path) -> None:
    """4 checkpoints of 12 bytes a parameter are 3.2 MiB, of which 1 is there."""
    old = tmp_path / "run/checkpoints/step_00000003"
    old.mkdir(parents=True)
    space = alone(run_file, check_run_folder)[-1]
    assert "3.2 MiB for 4 checkpoints," in space.text
    (old / "part").write_bytes(bytes(1 << 20))
    space = alone(run_file, check_run_folder)[-1]
    assert "2.2 MiB for 4 checkpoints, some of them there," in space.text


@pytest.mark.parametrize("skew", [-60.0, 60.0])
def test_file_systems_clock(run_file: Path, tmp_path: Path, skew: float) -> None:
    lines = alone(run_file, check_run_folder, clock=lambda: time.time() + skew)
    (note,) = [line for line in lines if line.mark == NOTE]
    late = float(note.text.removesuffix(" s").split()[-1])
    assert late == pytest.approx(-skew, abs=5)
