"""``crash.json``: the first one to write decides, and a later start's folder is left alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smoe_ds.file_lock import signature
from smoe_ds.watch.crash_file import CrashFile, crash_text
from smoe_ds.watch.failure import Failure

HOLDER = """
import sys
from pathlib import Path
from smoe_ds.run.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def write(file: CrashFile, rank: int, signed: str | None = None) -> bool:
    failure = Failure(rank, "node1", 12, "vanished", "step 3: computing", 2.0, "it is gone")
    return file.write(failure, world_size=4, others={3: "c", 2: "b"}, resume="go on", signed=signed)


def named(folder: Path) -> int:
    return int(json.loads((folder / "crash.json").read_text())["rank"])


@contextmanager
def another_start(folder: Path) -> Iterator[str]:
    """A process that trains in the folder; how it signs."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], text=True, **pipes) as holder:  # type: ignore[call-overload]
        assert holder.stdout.readline() == "held\n"
        yield (folder / "run.lock").read_text().strip()
        assert str(holder.pid) in (folder / "run.lock").read_text()


def test_the_first_to_write_decides(tmp_path: Path) -> None:
    watchers = [CrashFile(tmp_path) for _ in range(2)]
    assert [write(watcher, rank) for rank, watcher in enumerate(watchers)] == [True, False]
    assert named(tmp_path) == 0
    content = json.loads((tmp_path / "crash.json").read_text())
    assert list(content["other_ranks"].items()) == [("2", "b"), ("3", "c")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["crash.json", "run.lock"]


def test_an_earlier_starts_is_replaced(tmp_path: Path) -> None:
    assert write(CrashFile(tmp_path), 1)
    assert write(CrashFile(tmp_path), 2)
    assert named(tmp_path) == 2


def test_nothing_is_written_to_a_later_starts_folder(tmp_path: Path) -> None:
    watcher = CrashFile(tmp_path)
    with another_start(tmp_path):
        assert not write(watcher, 1, signed=signature(1, "node1"))
        assert not write(watcher, 1)
    assert not (tmp_path / "crash.json").exists()


def test_the_lock_of_a_lost_host_is_this_starts_own(tmp_path: Path) -> None:
    watcher = CrashFile(tmp_path)
    with another_start(tmp_path) as signed:
        assert write(watcher, 0, signed=signed)
    assert named(tmp_path) == 0


def test_a_name_that_is_not_utf_8_keeps_nothing_from_being_written(tmp_path: Path) -> None:
    failure = Failure(0, "node1", 12, "exception", "reading a\udcffb", 2.0, "é\udc80: no such file")
    assert CrashFile(tmp_path).write(failure, world_size=1, others={}, resume="go on", signed=None)
    content = json.loads((tmp_path / "crash.json").read_text(encoding="utf-8"))
    assert (content["doing"], content["message"]) == (failure.doing, failure.message)


def test_the_last_lines_blame_no_rank_that_only_saw_another_go(tmp_path: Path) -> None:
    failure = Failure(2, "node1", 12, "exception", "step 3", 2.4, "not known which: reset by peer", echo=True)
    first, _ = crash_text(tmp_path, failure, 4, "the command").splitlines()
    assert first == (
        "smoe-ds: rank 2 of 4 failed (process 12 on node1), step 3 for 2 s: not known which: reset by peer"
    )


def test_the_last_lines_are_two_whatever_is_in_a_name(tmp_path: Path) -> None:
    failure = Failure(2, "node1", 12, "exception", "reading a\nb", 2.4, "\x1b[2Jbad\u2028", "Trace\n\tx\x1b\n")
    lines = crash_text(tmp_path / "a\nb", failure, 4, "the command").split("\n")
    assert lines[:2] == ["Trace", "\tx\\x1b"] and len(lines) == 5
    assert lines[2].endswith("reading a\\nb for 2 s: \\x1b[2Jbad\\u2028") and "/a\\nb/crash.json" in lines[3]


@pytest.mark.parametrize("traceback", ["", "Traceback\n  a line\n"])
def test_the_last_lines_name_rank_place_and_remedy(tmp_path: Path, traceback: str) -> None:
    failure = Failure(2, "node1", 12, "exception", "step 3: computing", 2.4, "ValueError: bad", traceback)
    *trace, first, second = crash_text(tmp_path, failure, 4, "the command").splitlines()
    assert trace == traceback.splitlines()
    assert first == (
        "smoe-ds: rank 2 of 4 failed first (process 12 on node1), step 3: computing for 2 s: ValueError: bad"
    )
    assert second == f"smoe-ds: see {tmp_path}/crash.json; continue from the last checkpoint with: the command"
