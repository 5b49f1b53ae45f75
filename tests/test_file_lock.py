"""A file's lock: held by one process, named, waited for, and gone with the process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smoe_ds.file_lock import HeldError, locked, signature
from tests.helpers.environment import ROOT

HOLDER = """
import sys, time
from pathlib import Path
from smoe_ds.file_lock import locked
with locked(Path(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@contextmanager
def held(path: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, str(path), str(seconds)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "held\n"
            yield holder
        finally:
            holder.kill()


def take(path: Path, **options: object) -> None:
    with locked(path, print, **options):  # type: ignore[arg-type]
        pass


def test_held_by_another_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    with held(path, 60) as holder:
        with pytest.raises(HeldError) as raised:
            take(path, patience=0.3)
        assert raised.value.holder == signature(holder.pid, socket.gethostname())
    take(path)


def test_one_that_is_about_to_go_is_waited_for(tmp_path: Path) -> None:
    with held(tmp_path / "lock", 1):
        take(tmp_path / "lock", patience=60)


def test_without_a_signature_the_last_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held(path, 60) as holder:
        pass
    take(path, sign=False)
    assert path.read_text() == f"process {holder.pid} on {socket.gethostname()}\n"
    take(path)
    assert path.read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"
