"""Ways to start a run on a SLURM of two nodes: each trains with the losses of one plain process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from smoe_ds.parallel.ports import free_port
from tests.helpers.environment import ROOT
from tests.helpers.launched import launched_run, losses_alone, losses_of
from tests.helpers.slurm import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.multirank, pytest.mark.slow]

DEEPSPEED = str(Path(sys.executable).with_name("deepspeed"))
MEET = "--master_addr=n1 --master_port=PORT"
COMMANDS = {
    "srun": f"srun -N2 -n4 {sys.executable} -m smoe_ds train RUN",
    "srun deepspeed": f"srun -N2 -n2 sh -c '{DEEPSPEED} -q --hostfile HOSTS --no_ssh --node_rank $SLURM_NODEID {MEET} "
    "--module smoe_ds train RUN'",
    "srun torchrun": f"srun -N2 -n2 sh -c '{sys.executable} -m torch.distributed.run --nnodes=2 --nproc-per-node=2 "
    "--node-rank=$SLURM_NODEID --master-addr=n1 --master-port=PORT -m smoe_ds train RUN'",
    "deepspeed --launcher slurm": f"salloc -N2 -n4 {DEEPSPEED} --launcher slurm --hostfile HOSTS --no_ssh_check {MEET} "
    f"{ROOT}/smoe_ds/__main__.py train RUN",
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, corpus_folder: Path) -> dict[int, float]:
    return losses_alone(tmp_path_factory.mktemp("alone") / "one", corpus_folder)


@pytest.mark.parametrize("name", COMMANDS)
def test_five_steps(slurm: Cluster, tmp_path: Path, corpus_folder: Path, alone: dict[int, float], name: str) -> None:
    file = launched_run(tmp_path / "job", corpus_folder)
    hosts = file.with_name("hosts")
    hosts.write_text("n1 slots=2\nn2 slots=2\n")
    command = COMMANDS[name].replace("RUN", f"{file} --set smoe.moe.ep_size=2").replace("HOSTS", str(hosts))
    done = slurm.run("sh", "-c", f"cd {ROOT} && {command.replace('PORT', str(free_port()))}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert losses_of(file) == pytest.approx(alone, rel=1e-5)
    assert "on 4 rank(s)" in done.stdout, done.stdout
