"""The commands of launch/README.md, in their order, on a SLURM without GPUs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.environment import ROOT
from tests.helpers.prepared import small_spec, write_spec
from tests.helpers.slurm import Cluster
from tests.helpers.small_run import small_run, write_run

pytestmark = [pytest.mark.slurm, pytest.mark.multirank, pytest.mark.slow]

README = (ROOT / "launch/README.md").read_text(encoding="utf-8")
NAMES = "RUN=run.json DIR=run SPEC=spec.yaml NODES=2 GPUS=2 PARTITION=main\n"
TRAINING = """\
until grep -qs "step 2/" "$DIR/logs/$job.start_0/task_0.log" && [ -e "$DIR/checkpoints/latest" ]; do sleep 0.1; done
"""
ENDED = 'until [ -z "$(squeue --noheader)" ]; do sleep 0.1; done\n'


def blocks() -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def on_processors(block: str) -> str:
    """The same where a task has a processor and no GPU; what rehearses without SLURM has a test of its own."""
    block = block.replace("bash launch/rehearse.sh\n", "")
    block = block.replace(' --ntasks-per-node "$GPUS" --gpus-per-node "$GPUS"', ' --ntasks-per-node "$GPUS"')
    return block.replace('--gpus-per-node "$GPUS"', '--tasks-per-node "$GPUS"')


def run_of(folder: Path, **train: Any) -> None:
    run = small_run(folder / "run", folder / "corpus", checkpoint_every=2, validate_every=1_000_000, **train)
    run["train_batch_size"] = 4
    write_run(folder / "run.json", run)


def script(end: str) -> str:
    """All blocks; between them, what a user waits for."""
    names, *commands = blocks()
    assert set(re.findall(r"\b([A-Z]+)=", names)) == set(re.findall(r"\b([A-Z]+)=", NAMES))
    parts = ["set -euo pipefail\nexport PYTHONIOENCODING=utf-8\n", NAMES]
    for block in map(on_processors, commands):
        parts.append(block)
        if "job=$(" in block:
            parts.append(TRAINING)
        if "STOP" in block:
            parts += [ENDED, end]
        if block == "sbatch train.sh\n":
            parts.append(ENDED)
    return "".join(parts)


END = """\
import json
from pathlib import Path
run = json.loads(Path("run.json").read_text())
step = int(Path("run/checkpoints/latest").read_text().strip().removeprefix("step_"))
run["smoe"]["train"]["max_steps"] = step + 3
Path("run.json").write_text(json.dumps(run))
"""


def test_every_command(slurm: Cluster, tmp_path: Path) -> None:
    write_spec(tmp_path, small_spec(tmp_path) | {"output": "corpus"})
    run_of(tmp_path, max_steps=1_000_000)
    (tmp_path / "end.py").write_text(END)
    (tmp_path / "commands.sh").write_text(script("python end.py\n"))
    done = slurm.run("sh", "-c", f"cd {tmp_path} && bash commands.sh", seconds=400)
    assert done.returncode == 0, done.stdout + done.stderr
    logs = sorted((tmp_path / "run/logs").glob("job_*.log"), key=lambda path: int(path.stem.removeprefix("job_")))
    stopped, finished, evaluated = (path.read_text() for path in logs)
    assert "stopped by the file STOP; not requeued" in stopped
    assert "start 0, on n[1-2]; finished so far: step_" in finished and finished.endswith(" done\n")
    assert evaluated.endswith(" done\n")
    assert "go: nothing stands in the way" in done.stdout
    assert json.loads((tmp_path / "run/scores.json").read_text())["directions"]
