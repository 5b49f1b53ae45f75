"""Processes that are started for the same output share the work, whoever leads, dies or comes late."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from data_prep.workers.crew import Crew, Meeting, crew_folder
from data_prep.workers.crew_member import _work
from data_prep.workers.pool import Workers
from smoe_ds.errors import DataError
from tests.data_prep.workers.test_mpi import hashes_of
from tests.helpers.environment import ROOT, own_environment
from tests.helpers.prepared import prepare_spec, small_spec, write_lines, write_spec


@contextmanager
def started(number: int, *arguments: str) -> Iterator[list[subprocess.Popen[str]]]:
    """So many processes with the same command; none is left afterwards."""
    command = [sys.executable, "-m", "data_prep", "--share", "--workers", "1", *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, cwd=ROOT, env=own_environment(), **pipes) for _ in range(number)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def outcomes(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    done = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        done.append((process.returncode, out, err))
    return done


def test_same_bytes_by_three_processes_and_one_that_comes_late(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, languages=("nso", "cat", "rus")) | {"shards": {"sentences": 100}}
    alone = prepare_spec(tmp_path, spec, workers=1)
    arguments = [str(write_spec(tmp_path, spec)), "--output", str(tmp_path / "shared"), "--piece", "70"]
    with started(3, *arguments) as processes:
        done = outcomes(processes)
    assert [code for code, _, _ in done] == [0, 0, 0], done
    assert sum("training pairs" in out and "\nprepared: " in out for _, out, _ in done) == 1, "one leads"
    assert hashes_of(tmp_path / "shared") == hashes_of(alone.path)
    with started(1, *arguments) as processes:
        ((code, out, _),) = outcomes(processes)
    assert code == 0 and "already prepared, verified" in out
    assert not list(tmp_path.glob("shared.*")), "neither lock nor work is left"


def test_another_one_goes_on_when_the_leader_is_killed(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, languages=("nso",))
    lines = [f"line {number} of many" for number in range(60_000)]
    spec["pairs"][0]["train"].append({side: write_lines(tmp_path / side, lines) for side in ("src", "tgt")})
    alone = prepare_spec(tmp_path, spec | {"output": "alone"}, workers=1)
    arguments = [str(write_spec(tmp_path, spec)), "--piece", "3000"]
    with started(3, *arguments) as processes:
        leader = wait_for_leader(tmp_path / "corpus", processes)
        wait_until(lambda: list(tmp_path.glob("corpus.work/records/clean/*/*")))
        children = psutil.Process(leader.pid).children(recursive=True)
        leader.send_signal(signal.SIGKILL)
        done = outcomes([process for process in processes if process is not leader])
        wait_until(lambda: not any(runs(child) for child in children))
    assert [code for code, _, _ in done] == [0, 0], done
    assert sum("\nprepared: " in out for _, out, _ in done) == 1
    assert hashes_of(tmp_path / "corpus") == hashes_of(alone.path)


def test_an_error_is_told_by_the_leader_and_ends_all(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    (tmp_path / "train.eng-nso.eng").open("a").write("One more line.\n")
    with started(2, str(write_spec(tmp_path, spec))) as processes:
        done = outcomes(processes)
    assert [code for code, _, _ in done] == [2, 2], done
    assert any("train.eng-nso.eng has 401 lines" in err for _, _, err in done)
    assert not crew_folder(tmp_path / "corpus").exists()


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (["--overwrite"], {}, "--share with --overwrite"),
        ([], {"WORLD_SIZE": "4"}, "--share with WORLD_SIZE=4: these processes share the work over MPI"),
    ],
)
def test_what_does_not_go_together_is_refused(
    arguments: list[str], variables: dict[str, str], message: str, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "data_prep",
        "--share",
        *arguments,
        str(write_spec(tmp_path, small_spec(tmp_path))),
    ]
    run = subprocess.run(
        command, cwd=ROOT, env=own_environment(**variables), capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 2 and message in run.stderr


def test_strangers_get_nothing_and_keep_nobody_waiting(tmp_path: Path) -> None:
    with crew() as (workers, meeting):
        silent = socket.create_connection(("127.0.0.1", meeting.port))
        wrong = Meeting(meeting.hosts, meeting.port, "00" * 32, meeting.process, meeting.work)
        assert code_of(wrong) == 3
        worker = start_worker(meeting)
        workers.submit("pid", os.getpid)
        assert dict(workers.results()) == {"pid": worker.pid}
        silent.close()


def test_a_call_that_kills_its_workers_is_given_up(tmp_path: Path) -> None:
    with crew() as (workers, meeting):
        for _ in range(3):
            start_worker(meeting)
        workers.submit("x", _die)
        with pytest.raises(DataError, match="3 workers died while they worked on the same piece"):
            list(workers.results())


def test_only_its_owner_can_read_the_meeting_point(tmp_path: Path) -> None:
    meeting = Meeting(["here"], 1, "ab", 2, "work")
    meeting.write(tmp_path / "meeting")
    assert (tmp_path / "meeting").stat().st_mode & 0o777 == 0o600
    assert Meeting.read(tmp_path / "meeting") == meeting
    assert Meeting.read(tmp_path / "none") is None


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def crew() -> Iterator[tuple[Workers, Meeting]]:
    leader = Crew("work")
    try:
        yield Workers(leader, 1, deadline=60), leader.meeting
    finally:
        leader.end(0)
        for process in _WORKERS:
            process.join(30)
            assert process.exitcode is not None
        _WORKERS.clear()


_WORKERS: list[Any] = []


def start_worker(meeting: Meeting) -> Any:
    import multiprocessing

    process = multiprocessing.get_context("spawn").Process(target=_work, args=(meeting,))
    process.start()
    _WORKERS.append(process)
    return process


def code_of(meeting: Meeting) -> int | None:
    process = start_worker(meeting)
    process.join(30)
    code: int | None = process.exitcode
    return code


def wait_for_leader(output: Path, processes: Sequence[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    wait_until(lambda: Meeting.read(crew_folder(output) / "meeting") is not None)
    meeting = Meeting.read(crew_folder(output) / "meeting")
    assert meeting is not None
    return next(process for process in processes if process.pid == meeting.process)


def wait_until(condition: Any) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited for a minute"
        time.sleep(0.02)


def runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
