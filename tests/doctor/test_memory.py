"""What a plan needs against GPU, machine, control groups and SLURM."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from smoe_ds.doctor.context import Context
from smoe_ds.doctor.finding import FAILED, NOTE, OK, Finding
from smoe_ds.doctor.host_memory import Limit, memory_limits
from smoe_ds.doctor.memory import check_memory, gpu_finding, host_finding
from tests.helpers.doctors import alone

GIB = 2**30


@pytest.mark.parametrize(
    ("need", "free", "mark", "text"),
    [
        (10, 30, OK, "needs"),
        (27, 30, NOTE, "less of a margin"),
        (31, 30, FAILED, "are free"),
        (33, 30, FAILED, "on a GPU that has"),
    ],
)
def test_gpu(need: float, free: float, mark: str, text: str) -> None:
    found = gpu_finding(need * GIB, free * GIB, 32 * GIB)
    assert found.mark == mark and text in found.text
    assert bool(found.remedy) == (mark != OK)


@pytest.mark.parametrize(
    ("planned", "limit", "mark"),
    [
        (1.0, Limit(8 * GIB, "of the machine"), OK),  # 4 ranks need 6 GiB, and have 2 of 10 already
        (2.0, Limit(8 * GIB, "of the machine"), NOTE),
        (2.1, Limit(8 * GIB, "of the machine"), FAILED),
        (2.0, Limit(8 * GIB, "of SLURM's --mem", empty=True), FAILED),  # nothing of it is taken
    ],
)
def test_all_ranks_of_a_host(planned: float, limit: Limit, mark: str) -> None:
    assert host_finding(planned * GIB, 0.5 * GIB, 4, [limit]).mark == mark


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_control_groups_of_version_2(tmp_path: Path) -> None:
    """The tightest is the group above; files that it keeps in memory can go."""
    root = write(
        tmp_path,
        {
            "proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n",
            "proc/self/cgroup": "0::/job/step\n",
            "sys/fs/cgroup/job/step/memory.max": "max\n",
            "sys/fs/cgroup/job/step/memory.current": "1\n",
            "sys/fs/cgroup/job/step/memory.stat": "inactive_file 0\n",
            "sys/fs/cgroup/job/memory.max": f"{4 * GIB}\n",
            "sys/fs/cgroup/job/memory.current": f"{3 * GIB}\n",
            "sys/fs/cgroup/job/memory.stat": f"anon 5\ninactive_file {GIB}\n",
        },
    )
    first, second = memory_limits({}, root)
    assert (first.free, second.free) == (2 * GIB, 8 * GIB)
    assert "cgroup/job" in first.whose and second.whose == "of the machine"


def test_control_groups_of_version_1_and_slurm(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/meminfo": "MemAvailable: 8388608 kB\n",
            "proc/self/cgroup": "4:memory:/job\n1:cpu,cpuacct:/\n0::/\n",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{6 * GIB}",
            "sys/fs/cgroup/memory/job/memory.usage_in_bytes": f"{1 * GIB}",
            "sys/fs/cgroup/memory/job/memory.stat": "total_inactive_file 0",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        },
    )
    assert [limit.free / GIB for limit in memory_limits({"SLURM_MEM_PER_NODE": "4096"}, root)] == [4, 5, 8]
    per_cpu = memory_limits({"SLURM_MEM_PER_CPU": "1024", "SLURM_CPUS_ON_NODE": "3"}, root)
    assert (per_cpu[0].free / GIB, per_cpu[0].empty) == (3, True)
    assert len(memory_limits({"SLURM_MEM_PER_NODE": "0"}, root)) == 2  # 0 stands for all


def test_this_machine_and_a_run_too_big_for_it(run_file: Path) -> None:
    (line,) = alone(run_file, check_memory)
    assert line.mark == OK and "MiB planned" in line.text
    run = json.loads(run_file.read_text())
    run["smoe"]["model"] |= {"d_model": 8192, "d_ffn": 65536, "encoder_layers": 24, "decoder_layers": 24}
    run_file.write_text(json.dumps(run))
    (line,) = alone(run_file, check_memory)
    assert line.mark == FAILED
    assert "start fewer ranks a host" in line.remedy


def test_slurms_limit_counts(run_file: Path) -> None:
    (line,) = alone(run_file, check_memory, environ={"DS_ACCELERATOR": "cpu", "SLURM_MEM_PER_NODE": "100"})
    assert line.mark == FAILED and "100 MiB of SLURM's --mem are free" in line.text


def test_exact_copies_of_frozen_weights_count(run_file: Path) -> None:
    """Half precision keeps them in fp32 on the host, beside the model."""
    run = json.loads(run_file.read_text()) | {"bf16": {"enabled": True}}
    planned = {}
    for patterns in ((), ("embedding", "*.experts.*.w1")):
        run["smoe"]["train"]["freeze"] = list(patterns)
        run_file.write_text(json.dumps(run))
        seen: list[Context] = []

        def look(context: Context, seen: list[Context] = seen) -> Iterator[Finding]:
            seen.append(context)
            yield from check_memory(context)

        (line,) = alone(run_file, look)
        (context,) = seen
        (found,) = check_memory(context)
        planned[patterns] = found.figures["planned"] - context.plan.memory["total"]
        frozen = context.plan.parameters["total"] - context.plan.trainable_parameters
        assert line.mark == OK and planned[patterns] == 4 * frozen
    assert 0 == planned[()] < planned["embedding", "*.experts.*.w1"]
