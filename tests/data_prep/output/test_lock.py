"""The lock of an output: held by one process, named in the error, gone with the process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.output.lock import locked
from smoe_ds.errors import DataError
from tests.helpers.environment import ROOT

HOLDER = """
import sys, time
from pathlib import Path
from data_prep.output.lock import locked
with locked(Path(sys.argv[1]), Path("out"), print):
    print("held", flush=True)
    time.sleep(60)
"""


def take(path: Path) -> None:
    with locked(path, Path("out"), print):
        pass


def test_another_process_holds_it_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "work" / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(DataError, match=f"out: process {holder.pid} on {socket.gethostname()} is preparing it"):
        take(path)
    holder.send_signal(signal.SIGKILL)
    holder.wait(timeout=30)
    take(path)


def test_a_lock_whose_file_was_removed_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, Path("out"), print):
        assert path.read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"
        path.unlink()
    take(path)
    assert path.exists()
