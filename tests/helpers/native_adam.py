"""DeepSpeed's Adam for the host, compiled once for all tests of a session."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.environment import ROOT

LOAD = "from smoe_ds.engine.native_adam import load_native_adam; print(load_native_adam())"


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Variables of a process that compiles into `folder`, or finds what was compiled there."""
    return {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "TORCH_EXTENSIONS_DIR": str(folder), **more}


def load_in_a_process(folder: Path, **more: str) -> subprocess.Popen[str]:
    """Starts a process, a group of its own, that loads the op and prints what went wrong, or None."""
    return subprocess.Popen(
        [sys.executable, "-c", LOAD],
        cwd=ROOT,
        env=environment(folder, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def compiled(factory: pytest.TempPathFactory) -> Path:
    """A folder with the compiled op, for `TORCH_EXTENSIONS_DIR`; skips where there is no compiler.

    Compiling takes about a minute; whoever sets the variable for the tests keeps the result from one session to the
    next.
    """
    if shutil.which(os.environ.get("CXX", "c++")) is None:
        pytest.skip("needs a C++ compiler")
    return _compile(factory.getbasetemp())


@functools.cache
def _compile(base: Path) -> Path:
    folder = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or base / "extensions")
    with load_in_a_process(folder) as process:
        try:
            said, noise = process.communicate(timeout=400)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert said.splitlines()[-1:] == ["None"], (said, noise)
    return folder
