"""Which GPU a build of PyTorch can use, and what is said where none is used."""

from __future__ import annotations

import pytest

from smoe_ds.doctor.finding import FAILED, SKIPPED
from smoe_ds.doctor.gpu import capability_problem, unused_gpu

NEW_WHEEL = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
OLD_WHEEL = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]


@pytest.mark.parametrize(
    ("capability", "architectures"),
    [
        ((7, 0), OLD_WHEEL),
        ((7, 2), OLD_WHEEL),  # sm_70 runs on it
        ((8, 9), NEW_WHEEL),  # sm_86 does
        ((9, 0), ["sm_90a"]),
        ((12, 0), NEW_WHEEL),
        ((12, 1), [*OLD_WHEEL, "compute_90"]),  # compiled by the driver
        ((10, 3), ["sm_100f"]),
    ],
)
def test_a_build_with_code(capability: tuple[int, int], architectures: list[str]) -> None:
    assert capability_problem(capability, architectures) is None


@pytest.mark.parametrize(
    ("capability", "architectures", "remedy"),
    [
        ((7, 0), NEW_WHEEL, "whl/cu126"),
        ((6, 1), NEW_WHEEL, "whl/cu126"),
        ((12, 0), OLD_WHEEL, "a later CUDA"),
        ((8, 0), ["sm_86"], "a later CUDA"),  # code for a newer one of the same kind
        ((9, 1), ["sm_90a"], "a later CUDA"),
        ((7, 5), ["compute_80"], "a later CUDA"),
        ((8, 0), [], "a later CUDA"),
    ],
)
def test_a_build_without_code(capability: tuple[int, int], architectures: list[str], remedy: str) -> None:
    problem = capability_problem(capability, architectures)
    assert problem is not None
    assert f"no code for sm_{capability[0]}{capability[1]}" in problem[0]
    assert remedy in problem[1]


@pytest.mark.parametrize(
    ("chosen", "files", "promised", "built_for", "mark", "text"),
    [
        ("cpu", ["/dev/nvidia0"], "8", "13.0", SKIPPED, "DS_ACCELERATOR is cpu"),
        (None, [], "0", None, SKIPPED, "no GPU here"),
        (None, ["/dev/nvidia0", "/dev/nvidia1"], "0", None, FAILED, "2 GPUs are here, but this torch was built for"),
        (None, [], "4", None, FAILED, "SLURM gave 4 GPUs, but this torch was built for CPUs only"),
        (None, ["/dev/nvidia0"], "", "13.0", FAILED, "1 GPUs are here, but torch (CUDA 13.0) cannot use them: too old"),
        ("cuda", [], "", None, FAILED, "DS_ACCELERATOR is cuda, but this torch was built for CPUs only"),
    ],
)
def test_a_rank_on_the_cpu(
    chosen: str | None, files: list[str], promised: str, built_for: str | None, mark: str, text: str
) -> None:
    found = unused_gpu(files=files, promised=promised, built_for=built_for, chosen=chosen, reason="too old")
    assert found.mark == mark
    assert text in found.text
    assert bool(found.remedy) == (mark == FAILED)
