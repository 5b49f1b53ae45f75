"""DeepSpeed's Adam for the host is compiled at its first use: here by one process at a time, never behind a dead one.

PyTorch, which compiles it, keeps others out with a file. A process killed meanwhile leaves that file, and every later
run on the machine would wait for ever, in silence. Around it stands a lock that the system takes back from the dead.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smoe_ds.text_line import first_line

_LOG = logging.getLogger(__name__)
_OP = "cpu_adam"
_TORCH_LOCK = "lock"
_TURN = "smoe_ds.turn"
_FOREIGN_DEADLINE = 900.0  # seconds that another program may compile for


def uses_native_adam(ds_config: dict[str, Any]) -> bool:
    """Whether DeepSpeed will update offloaded optimizer state with its own compiled Adam instead of PyTorch's."""
    offload = ds_config.get("zero_optimization", {}).get("offload_optimizer") or {}
    torch_adam = ds_config["optimizer"].get("params", {}).get("torch_adam")
    return offload.get("device", "none") != "none" and not torch_adam


def load_native_adam() -> str | None:
    """Compiles the op (about a minute, once per machine and PyTorch) or loads it; what went wrong, as text.

    The result lies in `TORCH_EXTENSIONS_DIR`, by default ``~/.cache/torch_extensions``. It is made for this processor:
    where hosts of several kinds share a home, give each kind a folder of its own.
    """
    from deepspeed.git_version_info import installed_ops
    from deepspeed.ops.op_builder import CPUAdamBuilder

    _find_ninja()
    logging.getLogger("DeepSpeed").addFilter(_is_of_use)
    try:
        if installed_ops.get(_OP):
            CPUAdamBuilder().load(verbose=False)
            return None
        folder = build_folder()
        with _turn(folder):
            if not (folder / f"{_OP}.so").exists():
                _LOG.warning("compiling DeepSpeed's Adam for the host in %s: about a minute, once", folder)
            CPUAdamBuilder().load(verbose=False)
    except (RuntimeError, ImportError, OSError) as error:
        return _problem(error)
    return None


def build_folder() -> Path:
    """Where PyTorch puts the compiled op."""
    from torch.utils.cpp_extension import _get_build_directory

    return Path(_get_build_directory(_OP, False))


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Waits for this process's turn; PyTorch's file of one that died in its turn is removed."""
    with (folder / _TURN).open("a+") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        mark.seek(0)
        lock = folder / _TORCH_LOCK
        if mark.read() and lock.exists():
            lock.unlink()
        _wait_for_others(lock)
        mark.write("compiling\n")
        mark.flush()
        try:
            yield
        finally:
            mark.truncate(0)  # only a process that was killed leaves it


def _wait_for_others(lock: Path) -> None:
    """Waits for a program that compiles without taking turns.

    Raises:
        RuntimeError: it does not come to an end.
    """
    deadline = time.monotonic() + _FOREIGN_DEADLINE
    while lock.exists():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{lock} says that another program is compiling; remove the file if none is")
        time.sleep(0.1)


def _is_of_use(record: logging.LogRecord) -> bool:
    """It warns of 16-bit parameters, which it sees before ZeRO puts fp32 copies in their place."""
    return not record.getMessage().startswith("FP16 params for CPUAdam")


def _find_ninja() -> None:
    """ninja is installed beside this Python, which need not be on PATH."""
    beside = Path(sys.executable).parent
    if shutil.which("ninja") is None and (beside / "ninja").exists():
        os.environ["PATH"] = f"{beside}{os.pathsep}{os.environ.get('PATH', '')}"


def _problem(error: Exception) -> str:
    reason = first_line(str(error.__cause__ or error)) or type(error).__name__
    return (
        f"DeepSpeed's Adam for the host cannot be compiled or loaded: {reason}; it needs a C++ compiler (g++) and "
        "ninja; install them, or set optimizer.params.torch_adam to true for PyTorch's, which is slower"
    )
