"""Whether the optimizer that the run asks for can be compiled here: DeepSpeed's Adam for the host, or the fused one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from smoe_ds.doctor.context import Context
from smoe_ds.doctor.finding import FAILED, OK, SKIPPED, Finding

PATIENCE = 15.0
"""Times the usual deadline: compiling takes a minute or two on an idle machine."""
_TORCH_ADAM = "or set optimizer.params.torch_adam to true for PyTorch's"


def check_adam_op(context: Context) -> Iterator[Finding]:
    """Compiles or finds what is compiled at the first step; once a host, the others wait for it."""
    if not context.meeting.first_on_host:
        return
    params, on_cpu = context.run.deepspeed["optimizer"]["params"], context.device.type == "cpu"
    torch_adam = on_cpu if params.get("torch_adam") is None else params["torch_adam"]
    offload = context.run.deepspeed["zero_optimization"].get("offload_optimizer") or {}
    if torch_adam:
        yield Finding(SKIPPED, "skipped because the run takes PyTorch's Adam, which needs no compiler", scope="host")
    elif offload.get("device", "none") != "none":
        yield _host_adam(context)
    elif on_cpu:
        yield compiler_finding(_missing_tools())
    else:
        yield _fused_adam()


def _host_adam(context: Context) -> Finding:
    if context.quick:
        return Finding(SKIPPED, "DeepSpeed's Adam for the host: skipped because of --quick", scope="host")
    os.environ.setdefault("DS_ACCELERATOR", context.device.type)
    from smoe_ds.engine.native_adam import build_folder, load_native_adam

    try:
        problem = load_native_adam()
    except Exception as error:  # whatever a compiler that is broken makes of it
        problem = f"DeepSpeed's Adam for the host cannot be compiled: {error}; install g++ and ninja, {_TORCH_ADAM}"
    if problem is not None:
        text, _, remedy = problem.partition("; ")
        return Finding(FAILED, text, remedy, scope="host")
    return Finding(OK, f"DeepSpeed's Adam for the host is compiled and loads ({build_folder()})", scope="host")


def _fused_adam() -> Finding:
    """The fused Adam is compiled by nvcc of the same major CUDA version at the first step."""
    import torch
    from torch.utils.cpp_extension import CUDA_HOME

    nvcc = Path(CUDA_HOME or "/nowhere") / "bin/nvcc"
    output = ""
    if nvcc.is_file():
        output = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout
    return fused_finding(
        installed=_is_installed(),
        nvcc=nvcc_version(output),
        built_for=torch.version.cuda,
        missing=_missing_tools(),
    )


def compiler_finding(missing: list[str]) -> Finding:
    """Whether DeepSpeed's Adam for a CPU can be compiled; it is at the first start, which takes minutes."""
    if missing:
        return Finding(
            FAILED,
            f"DeepSpeed's Adam has to be compiled, and {' and '.join(missing)} is not found",
            f"install it, {_TORCH_ADAM}",
            scope="host",
        )
    return Finding(OK, "g++ and ninja are there for DeepSpeed's Adam", scope="host")


def fused_finding(*, installed: bool, nvcc: str | None, built_for: str | None, missing: list[str]) -> Finding:
    """Whether the fused Adam can be compiled.

    Args:
        installed: DeepSpeed was installed with it.
        nvcc: version of the CUDA compiler found, e.g. ``12.8``.
        built_for: CUDA version of the PyTorch build.
        missing: other tools that are not there.
    """
    if installed:
        return Finding(OK, "DeepSpeed was installed with its fused Adam", scope="host")
    if nvcc is None:
        return Finding(
            FAILED,
            "DeepSpeed's fused Adam has to be compiled, and nvcc is not found",
            f"load the CUDA toolkit {built_for} (CUDA_HOME), {_TORCH_ADAM}",
            scope="host",
        )
    if nvcc.split(".")[0] != str(built_for).split(".")[0]:
        return Finding(
            FAILED,
            f"DeepSpeed's fused Adam has to be compiled: nvcc is of CUDA {nvcc}, torch of {built_for}",
            f"load the CUDA toolkit {built_for} (CUDA_HOME), {_TORCH_ADAM}",
            scope="host",
        )
    if missing:
        return Finding(
            FAILED,
            f"DeepSpeed's fused Adam has to be compiled, and {' and '.join(missing)} is not found",
            f"install it, {_TORCH_ADAM}",
            scope="host",
        )
    return Finding(OK, f"nvcc {nvcc}, g++ and ninja are there for DeepSpeed's fused Adam", scope="host")


def nvcc_version(output: str) -> str | None:
    """``12.8`` of what ``nvcc --version`` prints."""
    match = re.search(r"release (\d+\.\d+)", output)
    return match[1] if match else None


def _is_installed() -> bool:
    from deepspeed.git_version_info import installed_ops

    return bool(installed_ops.get("fused_adam"))


def _missing_tools() -> list[str]:
    return [tool for tool in ("g++", "ninja") if _which(tool) is None]


def _which(tool: str) -> str | None:
    """On PATH, or beside this Python, where pip puts ninja."""
    beside = Path(sys.executable).with_name(tool)
    return shutil.which(tool) or (str(beside) if beside.exists() else None)
