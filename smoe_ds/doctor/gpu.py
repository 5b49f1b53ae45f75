"""Whether PyTorch finds the GPUs it should, was built for them, and whether they can compute in the run's precision."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from smoe_ds.config.checks import check_device
from smoe_ds.config.number_formats import torch_dtype
from smoe_ds.doctor.context import Context
from smoe_ds.doctor.finding import FAILED, NOTE, OK, SKIPPED, Finding
from smoe_ds.errors import ConfigError
from smoe_ds.text_line import first_line

_ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")
_FIRST_IN_ALL_WHEELS = (7, 5)
_OLD_WHEEL = (
    "pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cu126 (wheels for CUDA 12.6 have sm_50, "
    "sm_60 and sm_70 up to torch 2.14, those for CUDA 12.8 sm_70 up to torch 2.10)"
)
"""Source: PyTorch's CUDA support matrix (RELEASE.md) and its proposals for 2.11 and 2.15."""
_DRIVER = Path("/proc/driver/nvidia/version")
_DEVICE_FILES = "/dev/nvidia[0-9]*"


def check_gpu(context: Context) -> Iterator[Finding]:
    """Driver, number of GPUs, their compute capability, precision; on a CPU whether a GPU was meant to be there."""
    import torch

    if context.device.type == "cpu":
        yield unused_gpu(
            files=[str(path) for path in Path("/").glob(_DEVICE_FILES[1:])],
            promised=context.environ.get("SLURM_GPUS_ON_NODE", "0"),
            built_for=torch.version.cuda,
            chosen=context.environ.get("DS_ACCELERATOR"),
            reason=_why_no_cuda(),
        )
        if context.run.precision == "fp16":
            yield Finding(
                NOTE,
                "fp16 on a CPU trains, but slower than fp32",
                "fp32: --set extends=engine/cpu_fp32.json",
                scope="run",
            )
        return
    count, local = torch.cuda.device_count(), context.env.local_world_size
    if count not in (1, local) and count < local:
        yield Finding(
            FAILED,
            f"{count} GPUs visible for {local} ranks of this host",
            f"start at most {count} ranks a host, or give the job more GPUs (--gpus-per-node)",
        )
    if context.device.index >= count:
        return
    name, capability = torch.cuda.get_device_name(context.device), torch.cuda.get_device_capability(context.device)
    problem = capability_problem(capability, torch.cuda.get_arch_list())
    whose = f"{name} (compute capability {capability[0]}.{capability[1]})"
    if problem is not None:
        found, remedy = problem
        yield Finding(FAILED, f"{whose}: torch {torch.__version__} {found}", remedy)
        return
    try:
        check_device(context.run, "cuda", capability)
    except ConfigError as error:
        yield Finding(FAILED, f"{whose}: the run asks for bf16, which it does not have", _last_clause(str(error)))
        return
    total = _works(context)
    yield Finding(OK, f"{whose}, {count} visible, driver {driver_version()}, CUDA {torch.version.cuda}: {total}")


def capability_problem(capability: tuple[int, int], architectures: Sequence[str]) -> tuple[str, str] | None:
    """Whether a build of PyTorch has code for a GPU.

    Code for ``sm_80`` runs on every later GPU of the same major number; ``compute_80`` is compiled by the driver for
    any later one; ``sm_90a`` runs on 9.0 alone, ``sm_100f`` on its family from there on.

    Args:
        capability: of the GPU, e.g. ``(7, 0)`` for a V100.
        architectures: what ``torch.cuda.get_arch_list()`` says.

    Returns:
        What is missing, and the remedy; None if there is code.
    """
    for text in architectures:
        match = _ARCHITECTURE.fullmatch(text)
        if match is None:
            continue
        kind, version, special = match[1], (int(match[2]), int(match[3])), match[4]
        exact = special == "a" and capability == version
        later = special != "a" and version <= capability and (kind == "compute" or version[0] == capability[0])
        if exact or later:
            return None
    found = f"has no code for sm_{capability[0]}{capability[1]}, only for {', '.join(architectures) or 'no GPU'}"
    if capability < _FIRST_IN_ALL_WHEELS:
        return found, _OLD_WHEEL
    return found, "install a build of torch for a later CUDA, see https://pytorch.org/get-started/locally"


def unused_gpu(
    *, files: Sequence[str], promised: str, built_for: str | None, chosen: str | None, reason: str
) -> Finding:
    """What to say of a rank on the CPU: that it is meant so, or that a GPU is there which it cannot use.

    Args:
        files: device files of NVIDIA GPUs.
        promised: number of GPUs SLURM gave to this host.
        built_for: CUDA version of the PyTorch build; None for one without.
        chosen: DS_ACCELERATOR.
        reason: why PyTorch cannot use CUDA.
    """
    if chosen == "cpu":
        return Finding(SKIPPED, "skipped because DS_ACCELERATOR is cpu")
    if not files and promised in ("", "0") and chosen is None:
        return Finding(SKIPPED, "skipped because there is no GPU here; the run would train on the CPU")
    there = (
        f"{len(files)} GPUs are here" if files else f"SLURM gave {promised} GPUs" if promised not in ("", "0") else ""
    )
    wanted = "; ".join(part for part in (there, f"DS_ACCELERATOR is {chosen}" if chosen else "") if part)
    if built_for is None:
        return Finding(
            FAILED,
            f"{wanted}, but this torch was built for CPUs only",
            "install torch for CUDA (pip install -r requirements.txt), or set DS_ACCELERATOR=cpu",
        )
    return Finding(
        FAILED,
        f"{wanted}, but torch (CUDA {built_for}) cannot use them: {reason}",
        "check nvidia-smi, CUDA_VISIBLE_DEVICES and that the driver is new enough for this CUDA, or set "
        "DS_ACCELERATOR=cpu",
    )


def driver_version() -> str:
    """Version of the kernel's NVIDIA driver, or ``unknown``."""
    try:
        match = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", _DRIVER.read_text())
    except OSError:
        return "unknown"
    return match[1] if match else "unknown"


def _works(context: Context) -> str:
    """A small product on the GPU, in the run's precision, compared with the CPU's; raises where it does not run."""
    import torch

    kind = torch_dtype(context.run.precision)
    matrix = torch.arange(64.0).remainder(7).reshape(8, 8)  # whole numbers, exact in every precision
    product = matrix.to(context.device, kind) @ matrix.to(context.device, kind)
    if not torch.equal(product.float().cpu(), matrix @ matrix):
        raise RuntimeError(f"a matrix product in {context.run.precision} is wrong on {context.device}")
    return f"computes in {context.run.precision}"


def _why_no_cuda() -> str:
    import torch

    if torch.version.cuda is None or torch.cuda.is_available():
        return ""
    try:
        torch.cuda.init()
    except Exception as error:
        return first_line(str(error))
    return "no device is visible"


def _last_clause(text: str) -> str:
    return text.rsplit("; ", 1)[-1]
