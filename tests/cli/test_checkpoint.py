"""``smoe-ds checkpoint``: what a run has saved, whether it is whole, what differs, what can go."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from smoe_ds.checkpoints.format import step_folders
from smoe_ds.cli.main import main
from smoe_ds.data.corpus import Corpus
from tests.helpers.random_run import random_run


def checkpoint(*arguments: object) -> int:
    return main(["checkpoint", *map(str, arguments)])


def flip_bit(path: Path, at: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 16
    path.write_bytes(content)


@pytest.fixture
def five(tmp_path: Path, corpus: Corpus) -> Path:
    """A run with the checkpoints 1 (best) to 5 (latest)."""
    return random_run(tmp_path, corpus, steps=(1, 2, 3, 4, 5))


def kept(run: Path) -> list[int]:
    return [int(folder.name[5:]) for folder in step_folders(run / "checkpoints")]


@pytest.mark.multirank
def test_ls_and_verify_of_a_trained_run(trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    assert checkpoint("ls", run) == 0
    head, newest, older = capsys.readouterr().out.splitlines()
    assert head.split() == ["step", "size", "written", "topology", "valid", "nll", "files"]
    assert newest.split()[0] == "4" and older.split()[0] == "2"
    assert "2 ranks, ep 2, ZeRO 1, float32" in newest and newest.endswith("sizes right") and "latest" in newest
    state = json.loads((run / "checkpoints" / "step_00000004" / "state.json").read_text())
    assert f"{state['extra']['progress']['validation_nll']:.4f}" in newest
    assert checkpoint("verify", run) == 0
    assert capsys.readouterr().out.count(": whole") == 2

    damaged = run / "checkpoints" / "step_00000002" / "optimizer-00001.safetensors"
    flip_bit(damaged)
    (damaged.parent / "notes.txt").write_text("mine")
    assert checkpoint("ls", run) == 0
    assert capsys.readouterr().out.count("sizes right") == 2
    assert checkpoint("ls", run, "--verify") == 0
    assert f"{damaged}: SHA-256 is" in capsys.readouterr().out
    assert checkpoint("verify", run) == 2
    out, err = capsys.readouterr()
    assert f"{damaged.parent}: damaged, 1 file\n" in out and out.count(": whole") == 1
    assert f"{damaged}: SHA-256 is" in err and f"{damaged.parent / 'notes.txt'}: is not in manifest.json" in err
    assert checkpoint("verify", run / "checkpoints" / "step_00000004") == 0
    os.truncate(damaged, 100)
    assert checkpoint("ls", run) == 0
    assert f"{damaged}: 100 bytes, expected" in capsys.readouterr().out


def test_any_single_bit_of_any_file_is_found(five: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = five / "checkpoints" / "step_00000005"
    for file in sorted(folder.iterdir()):
        for at in (0.0, 0.3, 0.6, 0.999):
            flip_bit(file, at)
            assert checkpoint("verify", folder) == 2, (file, at)
            assert str(file) in capsys.readouterr().err
            flip_bit(file, at)
    assert checkpoint("verify", folder) == 0


@pytest.mark.multirank
def test_diff_names_topology_settings_and_parameters(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = trained_run / "checkpoints"
    assert checkpoint("diff", root / "step_00000004", trained_run) == 0
    assert capsys.readouterr().out.endswith("no difference\n")
    assert checkpoint("diff", root / "step_00000002", root / "step_00000004", "--all") == 1
    out = capsys.readouterr().out
    assert "state.engine.global_steps: 2 | 4\n" in out
    assert "Adam steps 2 and 4\n" in out
    largest = [float(line.split("|difference| ")[1].split(",")[0]) for line in out.splitlines() if "|diff" in line]
    assert len(largest) > 60 and largest == sorted(largest, reverse=True)
    assert any(line.startswith("exp_avg_sq ") for line in out.splitlines())

    other = tmp_path / "other"
    shutil.copytree(trained_run, other)
    config = json.loads((other / "config.json").read_text())
    config["smoe"]["moe"]["top_k"] = 1
    (other / "config.json").write_text(json.dumps(config))
    assert checkpoint("diff", trained_run, other) == 1
    assert capsys.readouterr().out.splitlines()[2:] == ["config.smoe.moe.top_k: 2 | 1"]
    flip_bit(other / "checkpoints" / "step_00000004" / "model-00000.safetensors")
    assert checkpoint("diff", trained_run, other) == 2


def test_prune_shows_first_and_removes_when_told(five: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checkpoint("prune", five, "--keep-last", 2, "--keep-best") == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["keep", "keep", "remove", "remove", "keep"]
    assert "nothing was removed; add --yes to remove them" in err and kept(five) == [5, 4, 3, 2, 1]
    assert checkpoint("prune", five, "--keep-last", 2, "--keep-best", "--yes") == 0
    assert kept(five) == [5, 4, 1]
    assert checkpoint("prune", five / "checkpoints", "--keep-last", 1, "--yes") == 0
    assert kept(five) == [5]
    assert not (five / "checkpoints" / "best").exists()
    assert not list(five.rglob("*.tmp-*"))
    assert checkpoint("prune", five, "--keep-last", 1, "--yes") == 0
    assert kept(five) == [5]


def test_prune_never_removes_the_only_whole_one(five: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = five / "checkpoints"
    for step in (5, 4, 2):
        flip_bit(root / f"step_0000000{step}" / "model-00000.safetensors")
    flip_bit(root / "step_00000001" / "manifest.json")
    assert checkpoint("prune", five, "--keep-last", 1, "--keep-best", "--yes") == 0
    assert kept(five) == [3]
    assert (root / "latest").read_text() == "step_00000003\n"
    assert "damaged: " in capsys.readouterr().err
    flip_bit(root / "step_00000003" / "model-00000.safetensors")
    assert checkpoint("prune", five, "--keep-last", 1, "--yes") == 2
    assert "none of the checkpoints is whole; nothing is removed" in capsys.readouterr().err
    assert kept(five) == [3]


_HOLD = (
    "import sys; from pathlib import Path; from smoe_ds.run.lock import locked\n"
    "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
)


def test_prune_leaves_a_run_in_progress_alone(five: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-c", _HOLD, str(five)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        assert checkpoint("prune", five, "--keep-last", 1, "--yes") == 2
        assert "is training in" in capsys.readouterr().err
        assert checkpoint("prune", five, "--keep-last", 1) == 0
    assert kept(five) == [5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ls"], "holds no checkpoint"),
        (["verify"], "holds no checkpoint"),
        (["prune"], "required: --keep-last"),
        (["prune", "--keep-last", "0"], "--keep-last"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert checkpoint(arguments[0], tmp_path, *arguments[1:]) == 2
    assert message in capsys.readouterr().err
