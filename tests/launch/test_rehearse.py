"""launch/rehearse.sh, as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.environment import ROOT, own_environment


def rehearse(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = own_environment(VENV=sys.prefix)
    command = ["bash", str(ROOT / "launch/rehearse.sh"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, cwd="/")


@pytest.mark.slow
@pytest.mark.multirank
def test_it_saves_is_started_again_and_ends_with_the_same_losses(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    done = rehearse("--dir", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("ended with exit status 75", "continuing after step", "are equal to the last digit"):
        assert words in done.stdout
    again = rehearse("--dir", str(folder))
    assert again.returncode == 1 and "has an earlier rehearsal" in again.stderr


def test_wrong_arguments_are_refused() -> None:
    done = rehearse("--fast")
    assert done.returncode == 1 and "unknown option --fast" in done.stderr
