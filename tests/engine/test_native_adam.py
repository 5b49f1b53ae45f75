"""Compiling DeepSpeed's Adam for the host: once, never behind a dead process, with a remedy where it cannot be."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.native_adam import ROOT, environment, load_in_a_process


@pytest.fixture
def copy(native_adam: Path, tmp_path: Path) -> Path:
    """The compiled op in a folder of its own."""
    return Path(shutil.copytree(native_adam, tmp_path / "extensions"))


def test_a_killed_compilation_keeps_nobody_waiting(copy: Path, tmp_path: Path) -> None:
    busy, lock = tmp_path / "busy", copy / "cpu_adam" / "lock"
    busy.touch()
    compiler = tmp_path / "c++"  # that takes its time; ninja's children outlive it, so they look for the file
    compiler.write_text(
        f'#!/bin/sh\ncase "$*" in *-o*) while [ -e {busy} ]; do sleep 0.1; done ;; *) c++ "$@" ;; esac\n'
    )
    compiler.chmod(0o755)
    (copy / "cpu_adam" / "cpu_adam.so").unlink()
    with load_in_a_process(copy, CXX=str(compiler)) as process:
        end = time.monotonic() + 60
        while not lock.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    busy.unlink()
    assert lock.exists()
    with load_in_a_process(copy) as process:
        try:
            said, noise = process.communicate(timeout=300)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert said.splitlines()[-1] == "None", noise
    assert "compiling DeepSpeed's Adam for the host in" in noise
    assert not lock.exists()
    assert (copy / "cpu_adam" / "smoe_ds.turn").read_text() == ""


_NO_PATIENCE = """
import smoe_ds.engine.native_adam as native
native._FOREIGN_DEADLINE = 0.5
print(native.load_native_adam())
"""


def test_another_programs_lock_is_respected_and_named(copy: Path) -> None:
    lock = copy / "cpu_adam" / "lock"
    lock.touch()
    done = subprocess.run(
        [sys.executable, "-c", _NO_PATIENCE],
        cwd=ROOT,
        env=environment(copy),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert f"{lock} says that another program is compiling; remove the file if none is" in done.stdout, done.stderr
    assert lock.exists()


def test_what_is_compiled_is_loaded_without_a_word(copy: Path) -> None:
    with load_in_a_process(copy) as process:
        said, noise = process.communicate(timeout=100)
    # what PyTorch says where it finds a folder of CUDA and no GPU is about that
    noise = [line for line in noise.splitlines() if "No CUDA runtime is found" not in line]
    assert (said, noise) == ("None\n", [])


_TRAIN = """
import torch
from smoe_ds.errors import ConfigError
from smoe_ds.parallel.launchers import discover
from smoe_ds.parallel.process_group import init_distributed, shutdown
init_distributed(discover(), torch.device("cpu"))
from tests.helpers.engines import Setup, make_engine
try:
    make_engine(0, 1, Setup(2, offload=True, native_adam=True))
except ConfigError as error:
    print(error)
shutdown()
"""


def test_without_a_compiler_the_remedy_is_named(tmp_path: Path) -> None:
    variables = environment(tmp_path / "extensions", PATH=str(tmp_path), PYTHONPATH=str(ROOT))
    done = subprocess.run([sys.executable, "-c", _TRAIN], env=variables, capture_output=True, text=True, timeout=100)
    assert "building the optimizer failed: DeepSpeed's Adam for the host cannot be compiled" in done.stdout, done.stderr
    assert "set optimizer.params.torch_adam to true" in done.stdout
