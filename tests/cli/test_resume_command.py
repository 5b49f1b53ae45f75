"""The command that goes on after a crash, in crash.json and in the log: a line that a shell runs as it was meant."""

from __future__ import annotations

import argparse
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from smoe_ds.cli.train import _command
from smoe_ds.parallel.env import Env

ENV = Env(rank=0, world_size=1, local_rank=0, local_world_size=1, launcher="single", master_addr=None, master_port=None)


@pytest.mark.parametrize(
    "name", ["run.json", "my run.json", "a'b;touch stolen.json", "a\nb.json", "a\u2028\u202eb\x1b.json"]
)
@pytest.mark.parametrize("world_size", [1, 2])
def test_a_shell_runs_it_as_it_was_run(name: str, world_size: int, tmp_path: Path) -> None:
    overrides = ["smoe.moe.strata=[4, 4]", "smoe.train.output_dir=$(touch stolen)`touch stolen`"]
    args = argparse.Namespace(run_file=name, overrides=overrides)
    command = _command(args, replace(ENV, world_size=world_size))
    assert command.isprintable()
    script = f"smoe-ds() {{ printf '%s\\0' \"$@\"; }}\n{command}\n".encode()
    done = subprocess.run(["bash"], input=script, capture_output=True, cwd=tmp_path, check=True)
    words = done.stdout.decode().split("\0")[:-1]
    assert words == ["train", name, "--set", overrides[0], "--set", overrides[1]] and not done.stderr
    assert list(tmp_path.iterdir()) == []
