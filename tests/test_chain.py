"""From raw text to a BLEU score with the commands a user types: prepare, train on two ranks, translate, evaluate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from smoe_ds.parallel.ports import free_port
from tests.helpers.prepared import small_corpus, small_spec, write_spec
from tests.helpers.small_run import scalars, small_run, write_run

MPIRUN = Path(sys.executable).parent / "mpirun"  # from the package mpich


def command(*arguments: str, stdin: str | None = None, before: tuple[str, ...] = (), **environ: str) -> str:
    """What ``python -m ARGUMENTS`` prints, started by the program in ``before`` if there is one."""
    done = subprocess.run(
        [*before, sys.executable, "-m", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", **environ},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.multirank
@pytest.mark.slow
def test_from_text_to_bleu(tmp_path: Path) -> None:
    """The invented languages are word-by-word ciphers: a model that trains at all learns them in a minute."""
    command("data_prep", str(write_spec(tmp_path, small_spec(tmp_path, size=700))))
    run = small_run(tmp_path / "run", tmp_path / "corpus", max_steps=260, warmup_steps=60, log_every=20)
    run["optimizer"]["params"]["lr"] = 4e-3
    run["smoe"]["model"] |= {"d_model": 64, "d_ffn": 128, "dropout": 0.0, "attention_dropout": 0.0}
    run["smoe"]["moe"] = {"strata": [2, 2, 2, 2], "ep_size": 2}
    run["smoe"]["data"] |= {"max_tokens": 768, "window": 1024}
    run["smoe"]["train"] |= {"validate_every": 130, "checkpoint_every": 130}
    file = write_run(tmp_path / "run.json", run)
    launcher = ("torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port()))
    command(*launcher, "-m", "smoe_ds", "train", str(file))

    table = command("smoe_ds", "evaluate", str(tmp_path / "run"), "--untrained")
    scores = json.loads((tmp_path / "run" / "scores.json").read_text(encoding="utf-8"))
    mean = scores["averages"]["all"]
    assert mean["bleu"] > 20, table
    assert mean["untrained_bleu"] < 2
    assert mean["copied_bleu"] < 2
    assert "tok:13a" in table and "sample 5" in table

    answer = command("smoe_ds", "translate", str(tmp_path / "run"), "--to", "nso", stdin="The teacher opens snow.\n\n")
    assert len(answer.split("\n")) == 3  # two lines, the empty one answered with an empty one
    assert answer.split("\n")[0]
    assert answer.split("\n")[1:] == ["", ""]


@pytest.mark.multirank
def test_launchers_train_alike(tmp_path: Path) -> None:
    """The same command under deepspeed, torchrun, mpirun and plain python: equal losses, whoever starts it."""
    corpus = small_corpus(tmp_path).path
    local = ["--set", "smoe.moe.load_balancing_batch=local"]  # one rank accumulates what two ranks do side by side
    deepspeed = ("deepspeed.launcher.runner", "-q", "--num_accelerators", "2", "--master_addr", "127.0.0.1")
    launchers = {
        "python": (),
        "torchrun": ("torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port()), "-m"),
        "deepspeed": (*deepspeed, "--master_port", str(free_port()), "--module"),
        **({"mpirun": ()} if MPIRUN.exists() else {}),
    }
    losses = {}
    for name, launcher in launchers.items():
        file = write_run(tmp_path / f"{name}.json", small_run(tmp_path / name, corpus, max_steps=5))
        ep_size = ["--set", f"smoe.moe.ep_size={1 if name == 'python' else 2}"]
        before = (str(MPIRUN), "-n", "2") if name == "mpirun" else ()
        output = command(*launcher, "smoe_ds", "train", str(file), *local, *ep_size, before=before)
        assert "Traceback" not in output
        losses[name] = [value for _, value in sorted(scalars(tmp_path / name)["train/loss"].items())]
    assert losses["deepspeed"] == losses["torchrun"] == losses.get("mpirun", losses["torchrun"])
    assert losses["python"] == pytest.approx(losses["torchrun"], rel=1e-5)
    assert len(losses["python"]) == 5
