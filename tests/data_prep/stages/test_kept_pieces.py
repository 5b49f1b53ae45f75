"""What the command says of finished pieces: where they are its own, and whether the same command can go on."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_prep.cli import main
from tests.helpers.environment import ROOT
from tests.helpers.prepared import small_spec, write_lines, write_spec


def long_spec(folder: Path) -> Path:
    """A specification whose text takes seconds to clean."""
    spec = small_spec(folder, languages=("nso",), size=60)
    lines = [f"line {number} of many" for number in range(150_000)]
    spec["pairs"][0]["train"].append({side: write_lines(folder / side, lines) for side in ("src", "tgt")})
    return write_spec(folder, spec)


def test_a_second_process_says_nothing_of_the_pieces_of_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = long_spec(tmp_path)
    command = [sys.executable, "-m", "data_prep", str(path), "--workers", "1", "--piece", "5000"]
    first = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("corpus.work/records/clean/*/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)
    try:
        assert main([str(path), "--quiet"]) == 2
    finally:
        first.kill()
        first.wait()
    err = capsys.readouterr().err
    assert f"/corpus: process {first.pid} on " in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("setting", "message"), [("vocab_size=99999", "is more than this text has"), ("vocab_size=270", "is too small")]
)
def test_after_an_error_that_would_come_again_nobody_is_told_to_repeat_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str, message: str
) -> None:
    path = write_spec(tmp_path, small_spec(tmp_path, size=60))
    command = [str(path), "--quiet", "--set", "sentencepiece.allow_smaller=false", "--set"]
    assert main([*command, f"sentencepiece.{setting}"]) == 2
    error, note = capsys.readouterr().err.splitlines()
    assert message in error
    pattern = r"\d+ finished pieces are kept in \S+corpus.work; they are used again once the error is fixed, or remove"
    assert re.match(pattern, note)
    command.remove("--quiet")
    assert main([*command, "sentencepiece.vocab_size=340"]) == 0, "fixed"
    assert "an earlier run ended with an error: " in capsys.readouterr().err


def test_another_specification_is_no_reason_to_speak_of_pieces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_spec(tmp_path, small_spec(tmp_path, size=60))
    assert main([str(path), "--quiet"]) == 0
    vocabulary = ["--set", "sentencepiece.allow_smaller=false", "--set", "sentencepiece.vocab_size=99999"]
    assert main([str(path), "--quiet", "--overwrite", *vocabulary]) == 2
    assert "finished pieces are kept" in capsys.readouterr().err
    assert main([str(path), "--quiet", "--set", "seed=7"]) == 2
    err = capsys.readouterr().err
    assert "was prepared from another specification" in err and err.count("\n") == 1
