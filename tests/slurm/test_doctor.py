"""``srun python -m smoe_ds doctor``: all tasks of two nodes look, the first one says what they found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.slurm import Cluster
from tests.helpers.small_run import small_run, write_run

pytestmark = [pytest.mark.slurm, pytest.mark.multirank]


def test_two_nodes(slurm: Cluster, tmp_path: Path, corpus_folder: Path) -> None:
    run = small_run(tmp_path / "run", corpus_folder)
    run["train_batch_size"] = 4
    file = write_run(tmp_path / "run.json", run)
    task = ("python", "-m", "smoe_ds", "doctor", str(file))
    done = slurm.run("srun", "--nodes=2", "--ntasks=4", *task, PYTHONIOENCODING="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ": 4 ranks on 2 hosts, started by slurm" in done.stdout
    assert "slurm: 4 ranks, 2 on each of 2 hosts, all here" in done.stdout
    assert "host n2: its clock is" in done.stdout and "n1 and n2: " in done.stdout
    assert done.stdout.splitlines()[-1].startswith("go: nothing stands in the way")
