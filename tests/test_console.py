"""Commands print text in any encoding that the terminal may have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.environment import ROOT
from tests.helpers.prepared import small_corpus, small_spec, write_lines, write_spec


def run(encoding: str, *words: object) -> str:
    """What a command prints in an encoding."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr.decode(encoding)
    return done.stdout.decode(encoding)


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", "Gi\\u0161 \\xe7a"), ("latin-1", "Gi\\u0161 ça"), ("utf-8", "Giš ça")]
)
def test_examples_of_a_preparation(tmp_path: Path, encoding: str, shown: str) -> None:
    spec = small_spec(tmp_path, languages=("nso",))
    lines = {"src": ["The house", "A tree"], "tgt": ["Giš ça " * 30, "Se"]}
    spec["pairs"][0]["train"].append({side: write_lines(tmp_path / side, text) for side, text in lines.items()})
    assert shown in run(encoding, "data_prep", write_spec(tmp_path, spec), "--quiet", "--examples")


def test_sentences_of_a_corpus(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path, languages=("rus",), size=60)
    text = run("utf-8", "smoe_ds", "data", "show", corpus.path, "eng-rus")
    assert text.encode("latin-1", "backslashreplace").decode("latin-1") == run(
        "latin-1", "smoe_ds", "data", "show", corpus.path, "eng-rus"
    )
    assert not text.isascii()
