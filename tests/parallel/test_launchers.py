"""Who started this process is read from its environment; contradictions are named, never guessed away."""

from __future__ import annotations

import pytest

from smoe_ds.errors import LaunchError
from smoe_ds.parallel.env import Env
from smoe_ds.parallel.launchers import discover
from smoe_ds.parallel.nodelist import expand_counts, expand_nodelist

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "gpu01",
    "MASTER_PORT": "29501",
    "TORCHELASTIC_RUN_ID": "none",
}
DEEPSPEED = {name: TORCHRUN[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")} | {
    "CROSS_RANK": "1",
    "CROSS_SIZE": "2",
    "LOCAL_SIZE": "2",
}
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "7",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_NODELIST": "gpu[01-02]",
    "SLURM_STEP_TASKS_PER_NODE": "4,3",
}
OPENMPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}
MPICH = {"PMI_RANK": "2", "PMI_SIZE": "3", "MPI_LOCALRANKID": "2", "MPI_LOCALNRANKS": "3"}
INTEL_MPI = MPICH | {"I_MPI_MPIRUN": "mpirun", "I_MPI_ROOT": "/opt/intel/mpi", "HYDI_CONTROL_FD": "7", "PMI_FD": "9"}
BATCH_SCRIPT = {"SLURM_JOB_ID": "4711", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
SALLOC = {"SLURM_JOB_ID": "5", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NUM_NODES": "2", "SLURM_NNODES": "2"}
TWO_NODES = SLURM | {
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
    "SLURM_STEP_NUM_NODES": "2",
}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Env(0, 1, 0, 1, "127.0.0.1", None, "single")),
        ({"MASTER_PORT": "29600"}, Env(0, 1, 0, 1, "127.0.0.1", 29600, "single")),
        (TORCHRUN, Env(3, 4, 1, 2, "gpu01", 29501, "torchrun")),
        (DEEPSPEED, Env(3, 4, 1, 2, "gpu01", 29501, "deepspeed")),
        (SLURM, Env(5, 7, 1, 3, "gpu01", 15000 + 4711 * 31 % 15000, "slurm")),
        (SLURM | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "9"}, Env(5, 7, 1, 3, "10.0.0.1", 9, "slurm")),
        (OPENMPI, Env(1, 4, 1, 2, None, None, "openmpi")),
        (MPICH, Env(2, 3, 2, 3, None, None, "mpich")),
        (INTEL_MPI, Env(2, 3, 2, 3, None, None, "intelmpi")),
        (MPICH | {"MASTER_ADDR": "n1", "MASTER_PORT": "7"}, Env(2, 3, 2, 3, "n1", 7, "mpich")),
    ],
)
def test_each_launcher(environ: dict[str, str], expected: Env) -> None:
    assert discover(environ) == expected


def test_the_innermost_launcher_decides() -> None:
    assert discover(TWO_NODES | TORCHRUN).launcher == "torchrun"  # one torchrun per node under srun
    assert discover(TWO_NODES | TORCHRUN | {"GROUP_WORLD_SIZE": "2"}).rank == 3
    assert discover(TWO_NODES | DEEPSPEED).rank == 3
    assert discover(TWO_NODES | OPENMPI) == discover(OPENMPI)  # mpirun starts its daemons by srun
    assert discover(BATCH_SCRIPT | {"SLURM_NTASKS": "3"} | MPICH) == discover(MPICH)
    assert discover(SALLOC | {"SLURM_NTASKS": "4"} | OPENMPI) == discover(OPENMPI)
    under_pmi2 = SLURM | {"PMI_RANK": "5", "PMI_SIZE": "7"}  # srun --mpi=pmi2
    assert discover(under_pmi2) == discover(SLURM)
    assert discover({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"} | TORCHRUN).launcher == "torchrun"


def test_one_slurm_node_meets_on_the_loopback() -> None:
    env = discover(SLURM | {"SLURM_STEP_NODELIST": "gpu07", "SLURM_STEP_TASKS_PER_NODE": "7", "SLURM_NODEID": "0"})
    assert (env.master_addr, env.local_world_size) == ("127.0.0.1", 7)


def test_one_task_takes_any_free_port() -> None:
    env = discover(
        SLURM
        | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
        | {"SLURM_STEP_NODELIST": "gpu07", "SLURM_STEP_TASKS_PER_NODE": "1"}
    )
    assert env == Env(0, 1, 0, 1, "127.0.0.1", None, "slurm")


def test_two_steps_of_a_job_meet_at_two_ports() -> None:
    ports = {discover(SLURM | {"SLURM_STEP_ID": str(step)}).master_port for step in range(20)}
    assert len(ports) == 20
    assert all(port is not None and 15000 <= port < 30000 for port in ports)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "LOCAL_RANK, MASTER_ADDR, MASTER_PORT missing"),
        (TORCHRUN | {"RANK": "x"}, "RANK is 'x', expected a whole number"),
        (TORCHRUN | {"RANK": "4"}, "rank 4 is not below the world size 4"),
        (TORCHRUN | {"LOCAL_RANK": "2"}, "local rank 2 is not below the local world size 2"),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "8"}, "8 processes on this host, but only 4 in the world"),
        (TORCHRUN | SLURM, "torchrun says world size 4, SLURM_NTASKS says 7"),
        (TORCHRUN | OPENMPI | {"OMPI_COMM_WORLD_SIZE": "8"}, "torchrun says rank 3 of 4, .* say rank 1 of 8"),
        (
            {name: TORCHRUN[name] for name in TORCHRUN if name != "TORCHELASTIC_RUN_ID"} | OPENMPI,
            "environment says rank 3 of 4, .* say rank 1 of 4",
        ),
        (SLURM | {"PMI_RANK": "4", "PMI_SIZE": "7"}, "slurm says rank 5 of 7, PMI_RANK and PMI_SIZE say rank 4 of 7"),
        (BATCH_SCRIPT | {"SLURM_NTASKS": "4"}, "not started by srun"),
        (BATCH_SCRIPT | {"SLURM_NTASKS": "4", "SLURM_STEP_ID": str(0xFFFFFFFB)}, "not started by srun"),
        ({n: v for n, v in SLURM.items() if n != "SLURM_STEP_NODELIST"}, "set MASTER_ADDR"),
        (SLURM | {"MASTER_ADDR": "localhost"}, "MASTER_ADDR is localhost, but the step has 2 hosts, gpu01, gpu02"),
        (SALLOC | {"SLURM_NTASKS": "4"}, "SLURM_NTASKS is 4, .* not started by srun and would run alone"),
        (SALLOC, "SLURM_JOB_NUM_NODES is 2, .* not started by srun"),
        (SALLOC | {"SLURM_NTASKS": "8"} | TORCHRUN, "torchrun says world size 4, SLURM_NTASKS says 8"),
        (TWO_NODES | TORCHRUN | {"GROUP_WORLD_SIZE": "1"}, "GROUP_WORLD_SIZE is 1 for torchrun, SLURM_NTASKS is 2"),
        (TWO_NODES | DEEPSPEED | {"CROSS_SIZE": "1"}, "CROSS_SIZE is 1 for deepspeed, SLURM_NTASKS is 2"),
        (TWO_NODES | MPICH, "all 3 ranks of mpich are on this host, SLURM_STEP_NUM_NODES is 2"),
        ({n: v for n, v in OPENMPI.items() if "LOCAL_RANK" not in n}, "OMPI_COMM_WORLD_LOCAL_RANK missing"),
    ],
)
def test_contradictions_show_both_sides(environ: dict[str, str], message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        discover(environ)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("", []),
        ("n1", ["n1"]),
        ("gpu[01-03,07]", ["gpu01", "gpu02", "gpu03", "gpu07"]),
        ("login,gpu[9-11],big-mem[2]", ["login", "gpu9", "gpu10", "gpu11", "big-mem2"]),
        ("r[1-2]n[08-09]x", ["r1n08x", "r1n09x", "r2n08x", "r2n09x"]),
        ("a[099-101]", ["a099", "a100", "a101"]),
    ],
)
def test_node_lists(text: str, hosts: list[str]) -> None:
    assert expand_nodelist(text) == hosts


@pytest.mark.parametrize("text", ["gpu[1-3", "gpu]1[", "gpu[3-1]", "gpu[a-b]", "gpu[[1]]"])
def test_malformed_node_lists(text: str) -> None:
    with pytest.raises(LaunchError, match="node list"):
        expand_nodelist(text)


def test_task_counts() -> None:
    assert expand_counts("4(x2),3,1(x3)") == [4, 4, 3, 1, 1, 1]
    with pytest.raises(LaunchError, match="4\\(x\\)"):
        expand_counts("4(x)")
