"""What the processes of a study are started with; several ranks for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smoe_ds.errors import LaunchError
from smoe_ds.study.processes import command, environment, gpus, shares, tell_to_stop, threads_each
from smoe_ds.study.row import read_rows
from smoe_ds.study.runner import _last_word
from tests.helpers.environment import ROOT


def test_runs_get_gpus_of_their_own() -> None:
    assert shares([], 3, 2) == [[], [], []]
    assert shares(list("0123"), 2, 2) == [["0", "1"], ["2", "3"]]
    assert shares(list("567"), 2, 1) == [["5"], ["6"]]
    with pytest.raises(LaunchError, match="2 runs of 2 ranks at once need 4 GPUs, there are 3; lower it"):
        shares(list("012"), 2, 2)


def test_gpus_that_may_be_used() -> None:
    assert gpus({"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "0,1"}) == []
    assert gpus({"CUDA_VISIBLE_DEVICES": " 2, GPU-4f"}) == ["2", "GPU-4f"]
    assert gpus({"CUDA_VISIBLE_DEVICES": ""}) == []


def test_runs_know_nothing_of_the_launcher_around_the_study() -> None:
    around = {
        "PATH": "/bin",
        "SLURM_PROCID": "3",
        "SLURM_NTASKS": "4",
        "RANK": "1",
        "PMI_RANK": "0",
        "MASTER_PORT": "1",
    }
    assert environment(around, 2, ["5"]) == {"PATH": "/bin", "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "5"}
    assert environment({}, 1, []) == {"OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_ranks_themselves_are_told_to_stop(tmp_path: Path, ranks: int) -> None:
    """A process that ignores the signal, with two children that do not."""
    child = "import signal, time, pathlib, sys; signal.signal(15, lambda *_: sys.exit(3))"
    child += f"; (pathlib.Path({str(tmp_path)!r}) / sys.argv[1]).touch(); time.sleep(100)"
    parent = "import signal, subprocess, sys; signal.signal(15, lambda *_: sys.exit(7))"
    parent += f"; both = [subprocess.Popen([sys.executable, '-c', {child!r}, name]) for name in 'ab']"
    parent += "; print([one.wait() for one in both], flush=True)"
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    tell_to_stop(process.pid, ranks)
    if ranks == 1:
        assert process.wait(60) == 7
        for pid in subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True).stdout.split():
            os.kill(int(pid), 9)
    else:
        assert process.communicate(timeout=60)[0] == "[3, 3]\n"
    tell_to_stop(process.pid, ranks)  # it has ended: nothing happens


def test_threads_are_shared() -> None:
    assert threads_each(2, 2, {"OMP_NUM_THREADS": "9"}) == 2
    assert threads_each(1, 1, {}) == len(os.sched_getaffinity(0))
    assert threads_each(1000, 1, {}) == 1


def test_the_last_word_is_the_programs_own() -> None:
    printed = (
        "step 1\nrun.json: smoe.data.path: /nowhere is no corpus\n"
        "E1129 20:51:00.1 7 torch/distributed/elastic/multiprocessing/api.py:10] failed (exitcode: 2) local_rank: 0\n"
        "Traceback (most recent call last):\n  File ...\n"
    )
    assert _last_word(printed) == "run.json: smoe.data.path: /nowhere is no corpus"
    assert _last_word("a\nb\n") == "b"
    assert _last_word("") == ""


@pytest.mark.multirank
def test_runs_of_two_ranks(tmp_path: Path, corpus_folder: Path) -> None:
    """They share the experts, what went wrong is told by its own line, and the rows are as those of one rank."""
    file = tmp_path / "study.yaml"
    file.write_text(
        f"base: {ROOT / 'ds_configs/quickstart.json'}\noutput: {tmp_path / 'out'}\nranks: 2\n"
        "systems:\n  smoe: {smoe.moe.strata: [2, 2]}\n  broken: {smoe.train.init_from: /nowhere}\n"
        f"settings: {json.dumps({**TINY, 'smoe.data.path': str(corpus_folder)})}\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "smoe_ds", "study", str(file)], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 1, ended.stderr
    rows = {row.system: row for row in read_rows(tmp_path / "out/results.jsonl")}
    assert rows["smoe"].status == "done" and rows["smoe"].steps == 3
    assert rows["broken"].status == "failed" and "/nowhere" in rows["broken"].error
    log = Path(rows["smoe"].folder).with_suffix(".log").read_text()
    assert "on 2 rank(s)" in log and "ep_size 2" in log


def test_runs_that_so_many_ranks_cannot_share_are_refused(tmp_path: Path) -> None:
    small = ROOT / "ds_configs/studies/small.yaml"
    found = subprocess.run(
        [sys.executable, "-m", "smoe_ds", "study", str(small), "--ranks", "3", "--dry-run"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert found.returncode == 2
    assert "small.yaml: dense: " in found.stderr
    assert "train_batch_size: 2 micro-batches a step cannot be shared by 3 ranks" in found.stderr


def test_a_command_of_one_rank_needs_no_launcher() -> None:
    assert command(1, ["train", "x"]) == [sys.executable, "-m", "smoe_ds", "train", "x"]
    assert "torch.distributed.run" in command(2, ["train", "x"])


TINY = {
    "smoe.train.max_steps": 3,
    "smoe.train.warmup_steps": 2,
    "smoe.train.validate_every": 3,
    "smoe.train.log_every": 1,
    "smoe.data.max_tokens": 256,
    "smoe.data.window": 512,
    "smoe.model.d_model": 16,
    "smoe.model.d_ffn": 24,
}
