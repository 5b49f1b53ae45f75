"""``smoe-ds doctor`` as a user starts it: alone and under torchrun, in order and with something in the way."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from smoe_ds.cli.main import main
from smoe_ds.parallel.ports import free_port
from tests.helpers.environment import own_environment
from tests.helpers.ranks import run_ranks


def doctor(*arguments: str, launcher: tuple[str, ...] = (), **environment: str) -> tuple[int, str]:
    """Exit code and all that was printed."""
    command = [*(launcher or (sys.executable,)), "-m", "smoe_ds", "doctor", *arguments]
    done = subprocess.run(
        command,
        env=own_environment(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
        check=False,
    )
    return done.returncode, done.stdout


def quickly(*arguments: str, **environment: str) -> tuple[int, str]:
    """The same in a process that has PyTorch loaded already."""
    ((code, printed),) = run_ranks(_doctor, 1, arguments, init=False, env=environment)
    return code, printed


def _doctor(rank: int, world_size: int, arguments: tuple[str, ...]) -> tuple[int, str]:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = main(["doctor", *arguments])
    return code, output.getvalue()


def torchrun(*extra: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}", *extra)


def marks_beside_cores(lines: list[str]) -> set[str]:
    """The marks of all checks but of the host's cores, which other programs may be using, and of its remedy."""
    return {line[1] for line in lines if line[3:16].strip() != "cores" and line[1] != " "}


def test_alone_and_in_order(run_file: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    code, printed = doctor(str(run_file))
    first, *lines, last = printed.splitlines()
    assert (code, last.partition(", ")[0]) == (0, "go: nothing stands in the way")
    assert first == f"smoe-ds doctor {run_file}: 1 rank on 1 host"
    assert not marks_beside_cores(lines) - {"✓", "-"}
    names = [line[3:16].strip() for line in lines if line[3] != " "]
    assert names == [
        *["launcher", "versions", "GPU", "memory", "limits", "cores", "corpus", "run folder", "shared", "checkpoints"],
        *["clocks", "interfaces", "network", "Adam"],
    ]
    assert all("skipped because" in line or "begins at step 0" in line for line in lines if line[1] == "-")
    assert sorted(tmp_path.iterdir()) == before


def test_something_in_the_way(run_file: Path, own_corpus: Path) -> None:
    next(own_corpus.glob("train/*/*.idx")).unlink()
    data = f"smoe.data.path={own_corpus}"
    code, printed = quickly(str(run_file), "--set", data, "--set", "train_batch_size=2", "--json")
    content = json.loads(printed)
    assert (code, content["go"]) == (1, False)
    (cross,) = [line for line in content["findings"] if line["mark"] == "failed"]
    assert cross["check"] == "corpus" and ".idx: No such file" in cross["text"] and cross["remedy"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "RUN.json"),
        (["nowhere.json"], "nowhere.json"),
        (["RUN", "--timeout", "0"], "--timeout 0: expected more"),
        (["RUN", "--set", "smoe.moe.strat=[2]"], "strata"),
    ],
)
def test_wrong_usage(run_file: Path, arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *[str(run_file) if word == "RUN" else word for word in arguments]]) == 2
    assert part in capsys.readouterr().err


def test_variables_that_contradict_each_other(run_file: Path) -> None:
    code, printed = doctor(str(run_file), RANK="0", WORLD_SIZE="2")
    assert code == 1
    assert "✗ launcher     environment: RANK and WORLD_SIZE set but LOCAL_RANK" in printed
    assert printed.splitlines()[-1] == "no go: 1 to fix (launcher)"


def test_nobody_comes(run_file: Path) -> None:
    """Rank 0 waits for rank 1, says that it is missing, and comes to an end; so does rank 1 without rank 0."""
    code, printed = quickly(str(run_file), "--timeout", "3", WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    assert code == 1
    assert ": 2 ranks on 1 host, started by environment" in printed
    assert "NO launcher     environment promised 2 ranks, 1 came; missing: 1" in printed
    ranks = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    code, printed = quickly(str(run_file), "--timeout", "3", **ranks)
    assert code == 1
    assert "rank 1 of 2 could not reach rank 0 at 127.0.0.1:" in printed and "within 3 s" in printed


@pytest.mark.multirank
def test_under_torchrun(run_file: Path) -> None:
    code, printed = doctor(str(run_file), "--set", "smoe.moe.ep_size=2", launcher=torchrun())
    first, *lines, last = printed.splitlines()
    assert (code, last.partition(",")[0]) == (0, "go: nothing stands in the way"), printed
    assert first.endswith(": 2 ranks on 1 host, started by torchrun")
    assert not marks_beside_cores(lines) - {"✓", "-"}
    assert "the same packages and source code on 2 ranks" in printed
    assert "a step exchanges" in printed and "(ep_size 2)" in printed


@pytest.mark.multirank
def test_another_version_in_one_rank(run_file: Path, tmp_path: Path) -> None:
    metadata = tmp_path / "other/safetensors-0.0.1.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: safetensors\nVersion: 0.0.1\n")
    script = f'test "$RANK" = 0 || export PYTHONPATH={tmp_path}/other:$PYTHONPATH; exec "$0" "$@"'
    launcher = (*torchrun("--no-python"), "sh", "-c", script, sys.executable)
    code, printed = doctor(str(run_file), launcher=launcher)
    assert code != 0
    assert "safetensors 0.0.1, others" in printed or "safetensors 0.8.0, others 0.0.1" in printed
    assert "no go: 1 to fix (versions), " in printed


def test_an_op_that_does_not_compile(run_file: Path, tmp_path: Path) -> None:
    """A compiler that always fails: DeepSpeed's Adam for the host is found to be out of reach."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    run = json.loads(run_file.read_text())
    run["optimizer"]["params"]["torch_adam"] = False
    run["zero_optimization"] |= {"stage": 2, "offload_optimizer": {"device": "cpu"}}
    run_file.write_text(json.dumps(run))
    variables = {"TORCH_EXTENSIONS_DIR": str(tmp_path / "extensions"), "CXX": "/bin/false"}
    code, printed = quickly(str(run_file), **variables)
    assert code == 1
    assert "NO Adam         DeepSpeed's Adam for the host cannot be compiled" in printed
    assert "torch_adam" in printed
    code, printed = quickly(str(run_file), "--quick", **variables)
    assert code == 0 and "skipped because of --quick" in printed
