"""The SLURM of these tests: two nodes, several clusters at a time, nothing left after one, also if a test fails."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.helpers.slurm import Cluster, _environments, slurm_cluster

pytestmark = pytest.mark.slurm


def test_tasks_are_on_two_nodes(slurm: Cluster) -> None:
    done = slurm.run("srun", "-N2", "-n4", "sh", "-c", 'echo "$SLURM_PROCID" "$(hostname)" $(getent hosts n1)')
    assert sorted(done.stdout.splitlines()) == [f"{task} n{1 + task // 2} 127.0.0.1 n1" for task in range(4)], done


def test_a_job_is_submitted_requeued_and_started_again(slurm: Cluster, tmp_path: Path) -> None:
    script, output = tmp_path / "job.sh", tmp_path / "output"
    script.write_text(
        "#!/bin/bash\necho start ${SLURM_RESTART_COUNT:-0}\n"
        "[[ ${SLURM_RESTART_COUNT:-0} == 1 ]] || { scontrol requeue $SLURM_JOB_ID && sleep 60; }\n"
    )
    job = slurm.submit(script, "--nodes=2", "--open-mode=append", f"--output={output}")
    slurm.restart(job)
    slurm.wait(job, ["COMPLETED"])
    assert slurm.field(job, "Restarts") == "1"
    starts = [line for line in output.read_text().splitlines() if line.startswith("start")]
    assert starts == ["start 0", "start 1"]


def test_two_at_a_time_and_nothing_is_left_after_a_failure(slurm: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    with pytest.raises(ZeroDivisionError), slurm_cluster(folder, nodes=1) as other:
        configuration = other.environment["SLURM_CONF"]
        assert other.run("srun", "hostname").stdout == "n1\n"
        assert set(slurm.run("srun", "-N2", "hostname").stdout.split()) == {"n1", "n2"}
        hanging = subprocess.Popen(["srun", "-n2", "sh", "-c", "sleep 600 & wait"], env=other.environment)
        while not other.processes(2, "sleep 600"):
            assert hanging.poll() is None
        raise ZeroDivisionError
    assert hanging.wait(10) != 0
    assert list(_environments(configuration)) == []
    assert not folder.exists()


@pytest.mark.usefixtures("slurm")
def test_daemons_that_do_not_start_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.helpers.slurm._CONFIGURATION", "ClusterName=test\nNoSuchKey=1\n")
    monkeypatch.setattr("tests.helpers.slurm._START_SECONDS", 2.0)
    with pytest.raises(RuntimeError, match="NoSuchKey"), slurm_cluster(tmp_path / "c"):
        pass
    assert list(tmp_path.iterdir()) == []
