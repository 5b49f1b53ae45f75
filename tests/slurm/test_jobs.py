"""Rendered jobs on a real SLURM: trained, signalled, requeued, killed, cancelled; prepared and evaluated by several."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smoe_ds.cli.main import main as smoe_ds
from tests.data_prep.workers.test_mpi import hashes_of
from tests.helpers.prepared import prepare_spec, small_spec, write_spec
from tests.helpers.random_run import random_run
from tests.helpers.slurm import Cluster
from tests.helpers.small_run import scalars, small_run, write_run

pytestmark = [pytest.mark.slurm, pytest.mark.multirank]

TWO_BY_TWO = ("--nodes", "2", "--tasks-per-node", "2")
ENDED = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL")


def rendered(slurm: Cluster, target: Path, *arguments: str, limit: str = "30") -> Path:
    """The script of a job, rendered as a user does it."""
    script = target.parent / f"job-{target.stem}.sh"
    command = ["python", "-m", "launch", "render", str(target), "--time", limit, "--output", str(script), *arguments]
    done = slurm.run(*command)
    assert done.returncode == 0, done.stderr
    return script


def four_rank_run(folder: Path, corpus: Path, **train: Any) -> Path:
    run = small_run(folder / "run", corpus, checkpoint_every=1000, validate_every=1000, **train)
    run["train_batch_size"] = 4
    run["smoe"]["moe"]["ep_size"] = 2
    return write_run(folder / "run.json", run)


def job_log(folder: Path, job: int) -> str:
    return (folder / f"logs/job_{job}.log").read_text(encoding="utf-8")


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + 120
    while not (value := condition()):
        assert time.monotonic() < end, f"two minutes passed, but not {what}"
        time.sleep(0.05)
    return value


def trains(run: Path, job: int, start: int = 0) -> bool:
    log = run / f"logs/{job}.start_{start}/task_0.log"
    return log.exists() and "step 2/" in log.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_job_saves_before_its_limit_is_requeued_and_ends_with_the_losses_of_an_undisturbed_one(
    slurm: Cluster, corpus_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "one").mkdir()
    run, file = tmp_path / "one/run", four_rank_run(tmp_path / "one", corpus_folder, max_steps=1_000_000)
    job = slurm.submit(rendered(slurm, file, *TWO_BY_TWO, "--stop-before", "600"))
    wait_until(lambda: trains(run, job), "training")
    slurm.run("scontrol", "update", f"JobId={job}", "TimeLimit=5")  # its signal is due at once
    wait_until(lambda: slurm.field(job, "Restarts") == "1", "requeued")
    saved = int((run / "checkpoints/latest").read_text().strip().removeprefix("step_"))
    assert "save" in job_log(run, job) or f"step_{saved:08d} finished; requeued" in job_log(run, job)
    script = (file.parent / "job-run.sh").read_text()
    assert "#SBATCH --signal=USR1@600" in script and "--requeue" in script

    end = saved + 6
    content = json.loads(file.read_text())
    content["smoe"]["train"]["max_steps"] = end  # the requeued job reads the run file anew
    file.write_text(json.dumps(content))
    slurm.run("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    slurm.restart(job)
    assert slurm.wait(job, ENDED, seconds=120) == "COMPLETED", job_log(run, job)
    assert "start 1, on n[1-2]; finished so far: step_" in job_log(run, job)
    again = (run / f"logs/{job}.start_1/task_0.log").read_text()
    assert f"continuing after step {saved}" in again and "on 4 rank(s) (slurm)" in again
    assert len(list(run.glob(f"logs/{job}.start_*/task_*.log"))) == 8, "a log for every task and start"

    (tmp_path / "two").mkdir()
    undisturbed = four_rank_run(tmp_path / "two", corpus_folder, max_steps=end)
    other = slurm.submit(rendered(slurm, undisturbed, *TWO_BY_TWO))
    assert slurm.wait(other, ENDED, seconds=120) == "COMPLETED", job_log(tmp_path / "two/run", other)
    losses, expected = (scalars(folder)["train/loss"] for folder in (run, tmp_path / "two/run"))
    assert losses == expected and len(losses) == end


def test_a_killed_task_ends_the_job_which_names_it_and_is_not_requeued(
    slurm: Cluster, corpus_folder: Path, tmp_path: Path
) -> None:
    file = four_rank_run(tmp_path, corpus_folder, max_steps=1_000_000, death_deadline=10)
    job = slurm.submit(rendered(slurm, file, *TWO_BY_TWO))
    wait_until(lambda: trains(tmp_path / "run", job), "training")
    os.kill(slurm.processes(job, "smoe_ds train")[3], signal.SIGKILL)
    assert slurm.wait(job, ENDED, seconds=120) == "FAILED"
    log = job_log(tmp_path / "run", job)
    assert "not requeued" in log and '"rank": 3' in log and "killed (SIGKILL, out of memory)" in log
    assert slurm.field(job, "Restarts") == "0" and slurm.field(job, "ExitCode") == "137:0"


def test_a_cancelled_job_leaves_a_checkpoint_and_is_not_requeued(
    slurm: Cluster, corpus_folder: Path, tmp_path: Path
) -> None:
    run, file = tmp_path / "run", four_rank_run(tmp_path, corpus_folder, max_steps=1_000_000)
    job = slurm.submit(rendered(slurm, file, *TWO_BY_TWO))
    wait_until(lambda: trains(run, job), "training")
    assert not (run / "checkpoints/latest").exists()
    slurm.run("scancel", str(job))
    assert slurm.wait(job, ENDED, seconds=120) == "CANCELLED"
    slurm.wait_until_idle(60)
    assert (run / "checkpoints/latest").read_text().startswith("step_")
    assert smoe_ds(["checkpoint", "verify", str(run)]) == 0
    assert slurm.state(job) == "CANCELLED" and slurm.field(job, "Restarts") == "0"


def test_a_run_that_cannot_start_fails_with_its_reason_in_the_log(slurm: Cluster, tmp_path: Path) -> None:
    file = four_rank_run(tmp_path, tmp_path / "no corpus")
    job = slurm.submit(rendered(slurm, file, *TWO_BY_TWO))
    assert slurm.wait(job, ENDED, seconds=120) == "FAILED"
    log = job_log(tmp_path / "run", job)
    assert "opening the corpus failed" in log and "not requeued" in log


@pytest.mark.parametrize("how", ["array", "mpi"])
def test_a_corpus_prepared_by_several_has_the_same_bytes(how: str, slurm: Cluster, tmp_path: Path) -> None:
    spec = small_spec(tmp_path, languages=("nso", "cat", "rus")) | {"shards": {"sentences": 100}}
    file = write_spec(tmp_path, spec)
    options = {"array": ["--array", "3"], "mpi": ["--mpi", "pmi2", "--tasks-per-node", "2"]}[how]
    script = rendered(slurm, file, "--kind", "prepare", *options, "--", "--piece", "70")
    job = slurm.submit(script)
    wait_until(lambda: not slurm.run("squeue", "--noheader").stdout.strip(), "the end of all tasks")
    logs = {path: path.read_text() for path in sorted((tmp_path / "corpus.logs").rglob("*.log"))}
    assert slurm.state(job) == "COMPLETED", logs
    of_jobs = [text for path, text in logs.items() if path.parent.name == "corpus.logs"]
    assert sum(text.endswith(" done\n") for text in of_jobs) == (3 if how == "array" else 1), logs
    alone = prepare_spec(tmp_path, spec | {"output": "alone"}, workers=1)
    assert hashes_of(tmp_path / "corpus") == hashes_of(alone.path)


def test_an_evaluation_by_four_ranks_is_that_of_one_process(
    slurm: Cluster, corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from smoe_ds.data.corpus import Corpus

    run = random_run(tmp_path, Corpus(corpus_folder), steps=(30,))
    job = slurm.submit(rendered(slurm, run, "--kind", "evaluate", *TWO_BY_TWO, "--", "--limit", "4"))
    assert slurm.wait(job, ENDED, seconds=120) == "COMPLETED", job_log(run, job)
    spread = json.loads((run / "scores.json").read_text())
    capsys.readouterr()
    assert smoe_ds(["evaluate", str(run), "--device", "cpu", "--limit", "4", "--again"]) == 0
    table = capsys.readouterr().out
    alone = json.loads((run / "scores.json").read_text())
    for report in (spread, alone):
        for result in report["directions"].values():
            del result["seconds"]
    assert spread == alone
    assert table in job_log(run, job)


def test_a_study_is_shared_by_the_tasks_of_an_array(slurm: Cluster, corpus_folder: Path, tmp_path: Path) -> None:
    base = write_run(tmp_path / "base.json", small_run(tmp_path / "unused", corpus_folder, max_steps=3))
    file = tmp_path / "study.yaml"
    systems = "systems: {dense: {smoe.moe.strata: []}, smoe: {smoe.moe.strata: [2, 2]}}"
    file.write_text(f"base: {base}\noutput: {tmp_path / 'out'}\nseeds: [1, 2]\n{systems}\n")
    job = slurm.submit(rendered(slurm, file, "--kind", "study", "--array", "2"))
    wait_until(lambda: not slurm.run("squeue", "--noheader").stdout.strip(), "the end of all tasks")
    logs = {path: path.read_text() for path in sorted((tmp_path / "out/logs").rglob("*.log"))}
    assert slurm.state(job) == "COMPLETED", logs
    rows = [json.loads(line) for line in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    trained = sorted((row["system"], row["seed"], row["status"]) for row in rows)
    assert trained == [("dense", 1, "done"), ("dense", 2, "done"), ("smoe", 1, "done"), ("smoe", 2, "done")], logs
    of_tasks = [text.count(": training in ") for text in logs.values() if ": training in " in text]
    assert sum(of_tasks) == 4 and len(of_tasks) == 2, of_tasks
