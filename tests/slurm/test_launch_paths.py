"""Ways to start a run on a SLURM of two nodes: each trains with the losses of one plain process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.environment import ROOT, own_environment
from tests.helpers.slurm import Cluster
from tests.helpers.small_run import scalars, small_run, write_run

pytestmark = [pytest.mark.slurm, pytest.mark.multirank, pytest.mark.slow]

DEEPSPEED = str(Path(sys.executable).with_name("deepspeed"))
MEET = "--master_addr=n1 --master_port=29641"
COMMANDS = {
    "srun": f"srun -N2 -n4 {sys.executable} -m smoe_ds train RUN",
    "srun deepspeed": f"srun -N2 -n2 sh -c '{DEEPSPEED} -q --hostfile HOSTS --no_ssh --node_rank $SLURM_NODEID {MEET} "
    "--module smoe_ds train RUN'",
    "srun torchrun": f"srun -N2 -n2 sh -c '{sys.executable} -m torch.distributed.run --nnodes=2 --nproc-per-node=2 "
    "--node-rank=$SLURM_NODEID --master-addr=n1 --master-port=29642 -m smoe_ds train RUN'",
    "deepspeed --launcher slurm": f"salloc -N2 -n4 {DEEPSPEED} --launcher slurm --hostfile HOSTS --no_ssh_check {MEET} "
    f"{ROOT}/smoe_ds/__main__.py train RUN",
}


def five_steps(folder: Path, corpus: Path) -> Path:
    folder.mkdir()
    run = small_run(folder / "run", corpus, max_steps=5, validate_every=100, checkpoint_every=100)
    run["train_batch_size"] = 4
    run["smoe"]["model"] |= {"dropout": 0.0, "attention_dropout": 0.0}
    (folder / "hosts").write_text("n1 slots=2\nn2 slots=2\n")
    return write_run(folder / "run.json", run)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, corpus_folder: Path) -> dict[int, float]:
    folder = tmp_path_factory.mktemp("alone") / "one"
    command = [sys.executable, "-m", "smoe_ds", "train", str(five_steps(folder, corpus_folder))]
    subprocess.run(command, cwd=ROOT, env=own_environment(), check=True, capture_output=True, timeout=120)
    return scalars(folder / "run")["train/nll"]


@pytest.mark.parametrize("name", COMMANDS)
def test_five_steps(slurm: Cluster, tmp_path: Path, corpus_folder: Path, alone: dict[int, float], name: str) -> None:
    file = five_steps(tmp_path / "job", corpus_folder)
    command = COMMANDS[name].replace("RUN", str(file)).replace("HOSTS", str(tmp_path / "job/hosts"))
    done = slurm.run("sh", "-c", f"cd {ROOT} && {command}")
    assert done.returncode == 0, done.stdout + done.stderr
    losses = scalars(tmp_path / "job" / "run")["train/nll"]
    assert len(losses) == 5
    assert losses == pytest.approx(alone, rel=1e-5)
    assert "on 4 rank(s)" in done.stdout, done.stdout
