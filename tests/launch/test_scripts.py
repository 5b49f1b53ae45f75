"""The scripts of launch/: shell syntax, help, refusals."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.environment import ROOT

SCRIPTS = [*sorted((ROOT / "launch").rglob("*.sh")), ROOT / ".ci/run", ROOT / "tests/on_gpu.sh"]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, cwd="/"
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shell_syntax(script: Path) -> None:
    done = run("bash", "-n", str(script))
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", [s for s in SCRIPTS if s.suffix == ".sh"], ids=lambda script: script.name)
def test_shellcheck(script: Path) -> None:
    done = subprocess.run(["shellcheck", "-x", str(script)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["quickstart.sh", "test.sh", "rehearse.sh"])
def test_help_needs_no_environment(name: str, tmp_path: Path) -> None:
    environment = tmp_path / "env"
    done = run("bash", str(ROOT / "launch" / name), "--help", VENV=str(environment), PYTHON="/nonexistent")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: bash launch/{name}")
    assert not environment.exists()


def test_help_names_what_can_be_changed() -> None:
    text = run("bash", str(ROOT / "launch/quickstart.sh"), "--help").stdout
    for option in ("--languages", "--minutes", "--ranks", "--spec", "--fresh"):
        assert option in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--langauges", "nso"], "unknown option --langauges"),
        (["--minutes"], "--minutes needs a value"),
        (["--minutes", "soon"], "--minutes soon: expected a number above 0"),
        (["--minutes", "0.0"], "--minutes 0.0: expected a number above 0"),
        (["--ranks", "0"], "--ranks 0: expected 1 or more"),
        (["--limit", "-3"], "--limit -3: expected 1 or more"),
        (["--source", "web"], "--source web: expected auto, debian or cldr"),
        (["--spec", "/no/such.yaml"], "--spec /no/such.yaml: no such file"),
        (["--languages", " "], "--languages: expected at least one"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_made(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    environment = tmp_path / "env"
    done = run("bash", str(ROOT / "launch/quickstart.sh"), *arguments, VENV=str(environment))
    assert done.returncode == 1
    assert message in done.stderr
    assert not environment.exists()


def test_ci_runs_the_test_script() -> None:
    done = run("bash", str(ROOT / ".ci/run"), "--help")
    assert done.stdout.startswith("Usage: bash launch/test.sh")
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_what_needs_a_gpu_says_so(tmp_path: Path) -> None:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = str(ROOT / "tests/on_gpu.sh")
    done = run("bash", script, str(tmp_path), str(tmp_path), PATH=programs, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2 and "no CUDA device" in done.stderr
    done = run("bash", script)
    assert done.returncode != 0 and "give the folder of a prepared corpus" in done.stderr
