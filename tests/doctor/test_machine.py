"""Limits, interfaces and compilers: what is found against what is needed."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest

from smoe_ds.doctor.adam_op import check_adam_op, compiler_finding, fused_finding, nvcc_version
from smoe_ds.doctor.cores import check_cores, cores_finding
from smoe_ds.doctor.finding import FAILED, NOTE, OK, SKIPPED
from smoe_ds.doctor.interfaces import interface_finding, matches_nccl
from smoe_ds.doctor.limits import check_limits, files_finding, files_needed, locked_finding, shared_memory_finding
from smoe_ds.parallel.cores import cores_here
from tests.helpers.doctors import alone

INFINITE = resource.RLIM_INFINITY


def test_open_files(run_file: Path) -> None:
    assert files_finding(1024, files_needed(64, 100)).mark == OK
    found = files_finding(1024, files_needed(1024, 100))
    assert found.mark == FAILED and "ulimit -n 65536" in found.remedy
    assert files_finding(INFINITE, 10**6).mark == OK
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        lines = alone(run_file, check_limits)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert lines[0].mark == FAILED and "open files, the limit is 100" in lines[0].text


@pytest.mark.parametrize(
    ("load", "cores", "all_cores", "ranks", "threads", "mark", "remedy"),
    [
        (0.4, 2, 2, 1, 2, OK, ""),
        (1.0, 2, 2, 1, 2, NOTE, "set OMP_NUM_THREADS to 1;"),
        (1.0, 2, 2, 1, 1, OK, ""),
        (0.0, 2, 2, 2, 2, NOTE, "set OMP_NUM_THREADS to 1;"),
        (9.0, 2, 2, 1, 1, NOTE, "the host is busy"),
        (20.0, 64, 64, 4, 8, OK, ""),
        (40.0, 64, 64, 4, 8, NOTE, "set OMP_NUM_THREADS to 6;"),
        (40.0, 8, 64, 4, 2, OK, ""),
        (60.0, 8, 64, 4, 2, NOTE, "set OMP_NUM_THREADS to 1;"),
        (0.0, 8, 64, 4, 16, NOTE, "set OMP_NUM_THREADS to 2;"),
    ],
)
def test_cores(load: float, cores: int, all_cores: int, ranks: int, threads: int, mark: str, remedy: str) -> None:
    found = cores_finding(load, cores, all_cores, ranks, threads)
    assert found.mark == mark and remedy in found.remedy


def test_cores_of_this_host(run_file: Path) -> None:
    together, everything = cores_here({}).together, os.cpu_count()
    (line,) = alone(run_file, check_cores)
    assert line.text.startswith(
        f"{together} cores, load " if together == everything else f"{together} of {everything} cores"
    )


def test_shared_and_locked_memory() -> None:
    assert shared_memory_finding(64 << 20, 64 << 20).mark == NOTE
    assert shared_memory_finding(8 << 30, 4 << 30).mark == OK
    assert (locked_finding(64 << 10).mark, locked_finding(INFINITE).mark) == (NOTE, OK)


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        ("ib", ["ib0", "ib1"]),
        ("=ib0", ["ib0"]),
        ("^lo,docker", ["eth0", "ib0", "ib1"]),
        ("^=ib0", ["docker0", "eth0", "ib1", "lo"]),
        ("eth0,ib1", ["eth0", "ib1"]),
    ],
)
def test_names_that_nccl_takes(wanted: str, taken: list[str]) -> None:
    names = ["docker0", "eth0", "ib0", "ib1", "lo"]
    assert [name for name in names if matches_nccl(wanted, name)] == taken


@pytest.mark.parametrize(
    ("names", "variable", "several", "mark"),
    [
        (["eth0", "ib0", "lo"], None, True, NOTE),
        (["eth0", "ib0", "lo"], None, False, SKIPPED),
        (["eth0", "docker0", "lo"], None, True, OK),
        (["eth0", "ib0", "lo"], "ib0", True, OK),
        (["eth0", "ib0", "lo"], "ib1", False, FAILED),
        (["eth0", "ib0", "lo"], "ib", True, FAILED),  # gloo takes whole names
    ],
)
def test_interfaces(names: list[str], variable: str | None, several: bool, mark: str) -> None:
    environ = {} if variable is None else {"GLOO_SOCKET_IFNAME": variable}
    assert interface_finding("gloo", names, environ, several_hosts=several).mark == mark


@pytest.mark.parametrize(
    ("installed", "nvcc", "missing", "mark", "text"),
    [
        (False, "12.6", [], OK, "nvcc 12.6"),
        (True, None, ["g++"], OK, "installed with"),
        (False, None, [], FAILED, "nvcc is not found"),
        (False, "11.8", [], FAILED, "CUDA 11.8, torch of 12.8"),
        (False, "12.8", ["ninja"], FAILED, "ninja is not found"),
    ],
)
def test_fused_adam(installed: bool, nvcc: str | None, missing: list[str], mark: str, text: str) -> None:
    found = fused_finding(installed=installed, nvcc=nvcc, built_for="12.8", missing=missing)
    assert found.mark == mark and text in found.text
    assert ("torch_adam" in found.remedy) == (mark == FAILED)


def test_what_nvcc_says() -> None:
    assert nvcc_version("Cuda compilation tools, release 12.8, V12.8.93\n") == "12.8"
    assert nvcc_version("") is None


def test_adam_only_where_the_run_wants_it(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = alone(run_file, check_adam_op)
    assert line.mark == SKIPPED and "PyTorch's Adam" in line.text
    run = json.loads(run_file.read_text())
    run["optimizer"]["params"]["torch_adam"] = False
    run_file.write_text(json.dumps(run))
    assert compiler_finding(["g++"]).mark == FAILED
    monkeypatch.setenv("PATH", "/nowhere")
    (line,) = alone(run_file, check_adam_op)
    assert line.mark == FAILED and "g++" in line.text
    run["zero_optimization"] |= {"stage": 2, "offload_optimizer": {"device": "cpu"}}
    run_file.write_text(json.dumps(run))
    (line,) = alone(run_file, check_adam_op, quick=True)
    assert line.mark == SKIPPED and "--quick" in line.text
