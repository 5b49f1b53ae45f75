"""launch/setup.sh: its functions, run by bash."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.environment import ROOT


def bash(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a script that has launch/setup.sh's functions."""
    return subprocess.run(
        ["bash", "-c", f'set -euo pipefail\n. "{ROOT}/launch/setup.sh"\n{script}'],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_failed_step_names_itself_its_log_and_what_it_said(tmp_path: Path) -> None:
    log = tmp_path / "a b" / "x.log"
    done = bash(f'step "Doing it" "{log}" bash -c "echo the reason; exit 7"; echo not reached')
    assert done.returncode == 1
    assert 'step "Doing it" failed with exit status 7' in done.stderr
    assert str(log) in done.stderr
    assert "the reason" in done.stderr
    assert "not reached" not in done.stdout
    assert "the reason" in log.read_text()


def test_long_step_shows_its_last_line(tmp_path: Path) -> None:
    done = bash(f'step Waiting "{tmp_path}/x.log" bash -c "echo half way; sleep 2.5"', HEARTBEAT_SECONDS="1")
    assert done.returncode == 0
    assert "... half way" in done.stdout


def test_shown_command_keeps_its_exit_status_and_log(tmp_path: Path) -> None:
    done = bash(f'show "{tmp_path}/x.log" bash -c "echo on both; exit 5" || echo "status $?"')
    assert done.stdout.splitlines() == ["on both", "status 5"]
    assert "on both" in (tmp_path / "x.log").read_text()


def test_python_without_ensurepip_names_the_package(tmp_path: Path) -> None:
    without = f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; esac\nexec "{sys.executable}" "$@"\n'
    for name in ("python3", "python3.10", "python3.11", "python3.12", "python3.13"):
        executable(tmp_path / name, without)
    executable(tmp_path / "id", "#!/bin/sh\necho 1000\n")
    done = bash("find_python", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1
    version = ".".join(str(part) for part in sys.version_info[:2])
    assert f"sudo apt-get update && sudo apt-get install python{version}-venv" in done.stderr


def test_old_python_is_passed_over(tmp_path: Path) -> None:
    executable(tmp_path / "old", "#!/bin/sh\nexit 1\n")
    executable(tmp_path / "bin/python3", "#!/bin/sh\nexit 1\n")
    executable(tmp_path / "bin/python3.12", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    done = bash('find_python; echo "$PYTHON"', PATH=path, PYTHON=str(tmp_path / "old"))
    assert done.stdout.strip() == "python3.12"


def test_no_python_at_all(tmp_path: Path) -> None:
    for name in ("python3", "python3.10", "python3.11", "python3.12", "python3.13"):
        executable(tmp_path / name, "#!/bin/sh\nexit 1\n")
    done = bash("find_python", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert "no Python >= 3.10 found" in done.stderr


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")
    done = bash("install_project runtime", VENV=str(tmp_path))
    assert done.returncode == 1
    assert "is not a virtual environment, and not empty" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "three years of work"


@pytest.mark.parametrize(("made_for", "asked_for"), [("", "runtime"), ("-test", "runtime"), ("-test", "test")])
def test_an_environment_that_is_there_is_not_installed_again(tmp_path: Path, made_for: str, asked_for: str) -> None:
    script = f"""
make_venv
fingerprint >"$VENV/.installed{made_for}"
install_project {asked_for}
"""
    environment = fake_environment(tmp_path / "v e")
    done = bash(script, VENV=str(environment))
    assert done.returncode == 0, done.stderr
    assert f"Environment is there: {environment}" in done.stdout


def fake_environment(folder: Path) -> Path:
    """A folder that passes for a virtual environment and refuses to install anything."""
    refuse = '#!/bin/sh\ncase "$*" in *install*) echo "asked to install" >&2; exit 9 ;; esac\n'
    executable(folder / "bin/python", f'{refuse}exec "{sys.executable}" "$@"\n')
    (folder / "pyvenv.cfg").touch()
    return folder


def test_changed_requirements_are_installed(tmp_path: Path) -> None:
    environment = fake_environment(tmp_path / "env")
    (environment / ".installed").write_text("another fingerprint\n")
    done = bash("install_project runtime", VENV=str(environment))
    assert done.returncode == 1
    assert "asked to install" in done.stderr


def test_torch_version_comes_from_the_requirements() -> None:
    pinned = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("torch==")]
    assert bash("torch_requirement").stdout.split() == pinned


def test_free_port_is_free_and_not_the_default(tmp_path: Path) -> None:
    done = bash("free_port", VENV=str(fake_environment(tmp_path / "env")))
    port = int(done.stdout)
    assert port != 29500
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))


@pytest.mark.parametrize(("gpus", "ranks", "accelerator"), [(0, 2, "cpu"), (1, 2, "cpu"), (2, 2, "unset")])
def test_gpus_are_used_only_if_every_rank_has_one(tmp_path: Path, gpus: int, ranks: int, accelerator: str) -> None:
    lines = "".join(f"echo 'GPU {number}: some device'\n" for number in range(gpus))
    executable(tmp_path / "nvidia-smi", f"#!/bin/sh\n{lines}")
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = bash(f'unset DS_ACCELERATOR; set_environment {ranks}; echo "${{DS_ACCELERATOR:-unset}}"', PATH=path)
    assert done.stdout.strip() == accelerator


def test_a_driver_that_does_not_answer_is_no_gpu(tmp_path: Path) -> None:
    executable(tmp_path / "nvidia-smi", "#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert bash("count_gpus", PATH=f"{tmp_path}:{os.environ['PATH']}").stdout.strip() == "0"
