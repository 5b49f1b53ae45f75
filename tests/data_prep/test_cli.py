"""``python -m data_prep``: report, exit codes, overrides, signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_prep.cli import main
from data_prep.report.text import format_report
from smoe_ds.data.corpus import Corpus
from smoe_ds.errors import DataError
from tests.helpers.environment import ROOT
from tests.helpers.prepared import small_spec, write_lines, write_spec


def test_prepares_then_finds_it_prepared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_spec(tmp_path, small_spec(tmp_path))
    assert main([str(path), "--set", "held_out.test=5", "--output", str(tmp_path / "else")]) == 0
    first = capsys.readouterr()
    assert re.split("  +", first.out.splitlines()[0]) == [
        "pair", "text", "read", "same as valid/test", "moved to valid/test", "kept", "src tokens", "tgt tokens",
    ]  # fmt: skip
    assert [line.split()[-3] for line in first.out.splitlines() if line.startswith("eng-nso  test")] == ["5"]
    assert f"prepared: {tmp_path / 'else'}: " in first.out and " training pairs, 3 languages, " in first.out
    assert "training the vocabulary" in first.err
    assert main([str(path), "--set", "held_out.test=5", "--output", str(tmp_path / "else"), "--quiet"]) == 0
    second = capsys.readouterr()
    assert "already prepared, verified" in second.out and second.err == ""
    assert second.out.splitlines()[:-1] == first.out.splitlines()[:-1]
    assert not (tmp_path / "corpus").exists()


def test_report_shows_every_reason_and_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = small_spec(tmp_path, languages=("nso",))
    lines = (["\0The house", "", "x"] * 3, ["Ngwako \0wo", "y", "z" * 99] * 3)
    files = {side: write_lines(tmp_path / side, text) for side, text in zip(("src", "tgt"), lines, strict=True)}
    spec["pairs"][0]["train"].append(files)
    spec["held_out"] = {"valid": 500, "test": 0, "max_fraction": 0.1}
    assert main([str(write_spec(tmp_path, spec)), "--quiet"]) == 0
    out = capsys.readouterr().out
    header, row = (line.split() for line in out.splitlines()[:2])
    assert header[2:6] == ["read", "empty", "length_ratio", "duplicate"] and row[2:6] == ["409", "3", "3", "2"]
    assert "pairs from which NUL or other control characters were removed: 3" in out
    assert "warning: eng-nso valid: 40 of 500 sentences drawn" in out
    assert format_report(Corpus(tmp_path / "corpus").manifest) in out


def test_errors_are_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = small_spec(tmp_path)
    path = write_spec(tmp_path, spec)
    (tmp_path / "train.eng-nso.eng").unlink()
    assert main([str(path), "--quiet"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: no such file: ") and captured.err.count("\n") == 1
    with pytest.raises(DataError):
        main([str(path), "--quiet", "--debug"])
    assert main([str(path), "--set", "sead=1"]) == 2
    assert "sead: unknown key; did you mean seed?" in capsys.readouterr().err


def test_keys_and_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--keys"]) == 0
    out = capsys.readouterr().out
    for text in ("max_ratio (default 6.0)", "source tsv", "length_ratio: one side", "swapped: pairs whose sides"):
        assert text in out
    for arguments in ([], ["spec.yaml", "--workers", "0"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2


@pytest.mark.parametrize(
    ("workers", "number", "word"), [("1", signal.SIGTERM, "terminated"), ("2", signal.SIGINT, "interrupted")]
)
def test_a_stopped_process_says_what_it_keeps_and_the_next_goes_on(
    tmp_path: Path, workers: str, number: int, word: str
) -> None:
    spec = small_spec(tmp_path, languages=("nso",))
    lines = [f"line {number} of many" for number in range(150_000)]  # some seconds of reading
    spec["pairs"][0]["train"].append({side: write_lines(tmp_path / side, lines) for side in ("src", "tgt")})
    spec["clean"] = {"copies": "keep", "near_duplicates": "keep"}
    command = [sys.executable, "-m", "data_prep", str(write_spec(tmp_path, spec)), "--workers", workers]
    process = subprocess.Popen(
        [*command, "--piece", "5000"], cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("corpus.work/records/clean/*/*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None
    os.killpg(process.pid, number)  # as a terminal or a batch system does it
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number and "Traceback" not in stderr
    assert re.search(rf"{word}\n\d+ finished pieces are kept in \S+corpus.work; run the same command again to", stderr)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["corpus.work"]
    again = subprocess.run([*command, "--piece", "5000"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0 and "an earlier run was interrupted: " in again.stderr
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["corpus"]
