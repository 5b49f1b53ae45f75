"""``history.jsonl``: the same scalars as TensorBoard's, after kills and resumes too, for readers of strict JSON."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smoe_ds.errors import CheckpointError
from smoe_ds.run.folder import RunFolder
from smoe_ds.run.history import HistoryFile, cut_history, read_history, read_records
from smoe_ds.train.log_listeners import History
from smoe_ds.train.progress import Progress
from smoe_ds.train.tensorboard_layout import BALANCE, LEARNING, SPEED
from tests.helpers.environment import ROOT
from tests.helpers.small_run import scalars, small_run, train_here, write_run

APPENDS_FOR_EVER = """
import sys
from pathlib import Path
from smoe_ds.run.history import HistoryFile
file = HistoryFile(Path(sys.argv[1]))
for step in range(1, 10**9):
    file.append(step, {f"tag/{i}": step + i / 7 for i in range(400)})
    if step == 20:
        print("on its way", flush=True)
"""


def strict(text: str) -> Any:
    """JSON without the words that Python adds."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    return json.loads(text, parse_constant=refuse)


def steps_of(file: Path) -> list[int]:
    return [int(record["step"]) for record in read_records(file)]


def lines_of(file: Path) -> list[tuple[int, ...]]:
    """Step and tags of each line."""
    return [(record["step"], *sorted(record.keys() - {"step"})) for record in read_records(file)]


def written(file: Path, *records: tuple[int, dict[str, float]]) -> Path:
    history = HistoryFile(file)
    for step, values in records:
        history.append(step, values)
    history.close()
    return file


def assert_as_in_tensorboard(folder: Path) -> None:
    """Every scalar of TensorBoard's but its overview, and no other; TensorBoard rounds to float32."""
    history = read_history(RunFolder(folder).history)
    rounded = {tag: {step: float(np.float32(value)) for step, value in by.items()} for tag, by in history.items()}
    shown = scalars(folder)
    overview = {tag for tag in shown if tag.startswith((LEARNING, BALANCE, SPEED))}
    assert len(overview) >= 8
    assert rounded == {tag: values for tag, values in shown.items() if tag not in overview}


def test_a_real_run_logs_what_tensorboard_has_also_when_it_goes_on(tmp_path: Path, corpus_folder: Path) -> None:
    run = small_run(tmp_path / "run", corpus_folder, max_steps=4, validate_every=2, checkpoint_every=2)
    file = write_run(tmp_path / "run.json", run)
    code, printed = train_here(file)
    assert code == 0, printed
    folder = RunFolder(tmp_path / "run")
    assert_as_in_tensorboard(folder.path)
    first = folder.history.read_bytes()
    assert steps_of(folder.history) == [1, 2, 2, 3, 4, 4]
    assert all(isinstance(strict(line), dict) for line in first.decode().splitlines())

    # the run goes on from step 4, as if it had come to step 5 and had been killed while it wrote of step 6
    beyond = b'{"step": 5, "train/loss": 1.0}\n{"step": 6, "train/lo'
    folder.history.write_bytes(first + beyond)
    run["smoe"]["train"]["max_steps"] = 6
    code, printed = train_here(write_run(file, run))
    assert code == 0 and "continuing after step 4" in printed
    assert folder.history.read_bytes().startswith(first)
    assert steps_of(folder.history) == [1, 2, 2, 3, 4, 4, 5, 6, 6]
    assert_as_in_tensorboard(folder.path)


def test_goes_on_without_doubles(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    written(file, *((step, {"train/loss": 1.0}) for step in (2, 4, 6, 8)))
    History(file, Progress(step=4)).close()
    assert steps_of(file) == [2, 4]
    History(file, Progress()).close()  # the folder's checkpoints were lost: the run begins anew
    assert steps_of(file) == []


def test_a_validation_that_the_checkpoint_does_not_know_of_is_made_again(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    records = (2, {"train/loss": 1.0}), (2, {"valid/nll": 3.0}), (4, {"train/loss": 1.0}), (4, {"valid/nll": 2.0})
    written(file, *records)
    History(file, Progress(step=4, last_validation=4)).close()
    assert lines_of(file) == [(2, "train/loss"), (2, "valid/nll"), (4, "train/loss"), (4, "valid/nll")]
    History(file, Progress(step=4, last_validation=2)).close()
    assert lines_of(file) == [(2, "train/loss"), (2, "valid/nll"), (4, "train/loss")]


def test_what_belongs_is_not_touched(tmp_path: Path) -> None:
    file = written(tmp_path / "history.jsonl", (1, {"a": 0.1}), (2, {"a": 0.2}))
    before = file.stat().st_ino, file.read_bytes()
    cut_history(file, lambda record: True)
    assert (file.stat().st_ino, file.read_bytes()) == before
    cut_history(tmp_path / "none.jsonl", lambda record: True)
    assert [path.name for path in tmp_path.iterdir()] == ["history.jsonl"]


def test_every_place_where_a_line_can_be_cut(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.jsonl", (1, {"a/b": 0.1}), (2, {"a/b": math.nan})).read_bytes()
    first = whole.index(b"\n") + 1
    file = tmp_path / "history.jsonl"
    for length in range(first, len(whole)):
        file.write_bytes(whole[:length])
        assert read_history(file) == {"a/b": {1: 0.1}}
        cut_history(file, lambda record: True)
        assert file.read_bytes() == whole[:first]
        written(file, (3, {"a/b": 0.3}))
        assert read_history(file) == {"a/b": {1: 0.1, 3: 0.3}}


def test_killed_while_it_writes(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    command = [sys.executable, "-c", APPENDS_FOR_EVER, str(file)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on its way\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    steps = steps_of(file)
    assert steps == list(range(1, len(steps) + 1)) and len(steps) >= 20
    (tmp_path / f"{file.name}.tmp-0123abcd").write_text("what a kill while cutting leaves")
    History(file, Progress(step=10)).close()
    assert steps_of(file) == list(range(1, 11))
    assert list(tmp_path.iterdir()) == [file]


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    values = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1e-320, "e": 3}
    file = written(tmp_path / "history.jsonl", (7, values))
    assert strict(file.read_text()) == {"step": 7, "a": None, "b": None, "c": None, "d": 1e-320, "e": 3}
    history = read_history(file)
    assert all(math.isnan(history[tag][7]) for tag in "abc")
    assert (history["d"], history["e"]) == ({7: 1e-320}, {7: 3})


def test_a_damaged_line_is_named_and_removed_by_the_next_start(tmp_path: Path) -> None:
    file = written(tmp_path / "history.jsonl", (1, {"a": 1.0}))
    for damage in (b"\0\0\0\n", b"[1]\n", b'{"a": 1.0}\n', b'{"step": "2"}\n', b"\xff\xfe\n", b"[" * 5000 + b"\n"):
        file.write_bytes(file.read_bytes() + damage + b'{"step": 2, "a": 2.0}\n')
        with pytest.raises(CheckpointError, match=r"history\.jsonl, line 2: is damaged"):
            read_history(file)
        cut_history(file, lambda record: record["step"] < 2)
        assert read_history(file) == {"a": {1: 1.0}}
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_history(tmp_path / "none.jsonl")


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match=r"history\.jsonl: cannot be written .*free space"):
        HistoryFile(tmp_path / "history.jsonl").append(1, {"a": 1.0})
