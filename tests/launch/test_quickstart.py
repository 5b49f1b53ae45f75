"""launch/quickstart.sh from its first line to its last, on a little composed text; then once more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.environment import ROOT

ENVIRONMENT = Path(sys.prefix)

pytestmark = [
    pytest.mark.multirank,
    pytest.mark.slow,
    pytest.mark.skipif(
        not any((ENVIRONMENT / stamp).exists() for stamp in (".installed", ".installed-test")),
        reason="needs the environment that launch/setup.sh makes; bash launch/test.sh runs in it",
    ),
]


def quickstart(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A run of a fifth of a minute; its environment is the one that runs this test."""
    command = ["bash", str(ROOT / "launch/quickstart.sh"), "--source", "cldr", "--languages", "msa"]
    return subprocess.run(
        [*command, "--minutes", "0.2", "--limit", "4", "--dir", str(folder), *arguments],
        env={**os.environ, "VENV": str(ENVIRONMENT)},
        capture_output=True,
        text=True,
        timeout=280,
    )


def test_from_text_to_scores_and_then_from_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    first = quickstart(folder)
    assert first.returncode == 0, first.stdout + first.stderr
    run = folder / "runs/quickstart-cldr-msa"
    scores = json.loads((run / "scores.json").read_text())
    assert set(scores["directions"]) == {"eng-msa", "msa-eng"}
    assert "smoke-test data" in first.stdout
    assert "on 2 rank(s) (ep_size 2)" in first.stdout
    for place in ("report.html", "tensorboard", "checkpoints", "config.json", "scores.json"):
        assert str(run / place) in first.stdout
        assert (run / place).exists()
    checkpoints = sorted(path.name for path in (run / "checkpoints").iterdir())

    second = quickstart(folder)
    assert second.returncode == 0, second.stdout + second.stderr
    for line in (
        "Environment is there",
        "Text is there",
        "Verifying the corpus",
        "Model is trained",
        "Scores are there",
        "Writing the report",
    ):
        assert line in second.stdout
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == checkpoints
    assert table_of(second.stdout) == table_of(first.stdout) != []

    other = quickstart(folder, "--set", "smoe.moe.strata=[8]")
    assert other.returncode == 1
    assert "was trained on other text or with other settings" in other.stderr
    assert "--fresh" in other.stderr


def table_of(output: str) -> list[str]:
    """The lines of the score table."""
    return [line for line in output.splitlines() if line.startswith(("direction ", "eng-msa ", "msa-eng ", "BLEU:"))]
