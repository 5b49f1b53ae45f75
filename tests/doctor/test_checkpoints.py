"""What a run folder holds: whole and damaged checkpoints, and the lock of a run at work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from smoe_ds.config.load import load_run
from smoe_ds.data.corpus import Corpus
from smoe_ds.doctor.checkpoints import checkpoint_findings, initial_findings, lock_finding
from smoe_ds.doctor.finding import FAILED, NOTE, OK, SKIPPED
from smoe_ds.doctor.merge import merge
from tests.helpers.random_run import random_run
from tests.helpers.small_run import write_run

HOLDER = """
import sys
from pathlib import Path
from smoe_ds.file_lock import locked
with locked(Path(sys.argv[1]) / "run.lock", lambda: None):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run_dir(tmp_path: Path, corpus_folder: Path) -> Path:
    """A run folder with checkpoints 10 and 20."""
    return random_run(tmp_path, Corpus(corpus_folder, verify=False), steps=(10, 20))


def marks(folder: Path, *, full: bool = False) -> list[tuple[str, str]]:
    lines = merge("x", {0: list(checkpoint_findings(folder, full=full))}, ["here"])
    return [(line.mark, line.text) for line in lines]


def test_weights_to_start_with(run_dir: Path, tmp_path: Path) -> None:
    def found(**changes: object) -> list[tuple[str, str]]:
        smoe = {"train": {"init_from": str(run_dir)}} | changes
        run = load_run(write_run(tmp_path / "next.json", {"extends": "run.json", "smoe": smoe}))
        return [(finding.mark, finding.text) for finding in initial_findings(run.smoe)]

    assert found() == [] == found(train={})
    ((mark, text),) = found(model={"activation": "gelu"})
    assert mark == FAILED and "smoe.model.activation is 'relu' and 'gelu' in this run" in text
    for path, message in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "has no checkpoint")):
        ((mark, text),) = found(train={"init_from": str(path)})
        assert mark == FAILED and message in text


def test_the_newest_is_whole(run_dir: Path) -> None:
    ((mark, text),) = marks(run_dir)
    assert mark == OK and "step_00000020, step 20" in text


def test_a_damaged_one_and_the_one_before_it(run_dir: Path) -> None:
    part = run_dir / "checkpoints/step_00000020/model-00000.safetensors"
    content = bytearray(part.read_bytes())
    content[-5] ^= 1
    part.write_bytes(content)
    assert [mark for mark, _ in marks(run_dir)] == [OK]  # sizes do not tell
    (_, damage), (mark, text) = marks(run_dir, full=True)
    assert str(part) in damage and mark == NOTE and "from step_00000010, 1 before the newest" in text
    part.write_bytes(content[:-1])
    assert [mark for mark, _ in marks(run_dir)] == [NOTE, NOTE]
    for manifest in run_dir.glob("checkpoints/*/manifest.json"):
        manifest.unlink()
    assert marks(run_dir)[0] == (FAILED, f"{run_dir}: none of its 2 checkpoints is whole")


def test_none_yet(tmp_path: Path) -> None:
    ((mark, text),) = marks(tmp_path / "none")
    assert mark == SKIPPED and "begins at step 0" in text
    assert lock_finding(tmp_path / "none").mark == OK
    assert not (tmp_path / "none").exists()


def test_a_run_at_work(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        found = lock_finding(tmp_path)
        assert found.mark == FAILED and f"process {holder.pid} on" in found.text
        holder.communicate("", timeout=60)
    assert lock_finding(tmp_path).mark == OK
    assert f"process {holder.pid}" in (tmp_path / "run.lock").read_text()  # its signature stays
