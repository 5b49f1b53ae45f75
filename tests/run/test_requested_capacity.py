"""The measured requested capacity: from ``history.jsonl``, for runs of earlier versions from TensorBoard's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_ds.errors import CheckpointError
from smoe_ds.run.folder import RunFolder
from smoe_ds.run.history import HistoryFile
from smoe_ds.run.requested_capacity import measured_requested_capacity

Values = dict[int, tuple[float, float]]


def in_history(folder: RunFolder, values: Values) -> None:
    file = HistoryFile(folder.history)
    for step, (encoder, decoder) in values.items():
        file.append(step, {"moe_requested_capacity/encoder.1": encoder, "moe_requested_capacity/decoder.1": decoder})
        file.append(step, {"train/loss": 9.0})
    file.close()


def in_event_files(folder: RunFolder, values: Values) -> None:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder.tensorboard))
    for step, (encoder, decoder) in values.items():
        writer.add_scalar("moe_requested_capacity/encoder.1", encoder, step)
        writer.add_scalar("moe_requested_capacity/decoder.1", decoder, step)
        writer.add_scalar("train/loss", 9.0, step)
    writer.close()


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path)
    for step in (10, 20):
        folder.checkpoint(step).mkdir(parents=True)
    return folder


@pytest.mark.parametrize("write", [in_history, in_event_files])
def test_up_to_the_step_of_the_weights(run: RunFolder, write: object) -> None:
    write(run, {5: (1.0, 1.5), 10: (1.25, 1.75), 20: (2.0, 3.0)})  # type: ignore[operator]
    assert measured_requested_capacity(run.path) == 2.5
    assert measured_requested_capacity(run.checkpoint(20)) == 2.5
    assert measured_requested_capacity(run.checkpoint(10)) == 1.5


def test_history_counts_where_there_are_both(run: RunFolder) -> None:
    in_event_files(run, {10: (1.0, 1.0)})
    in_history(run, {10: (2.0, 2.0)})
    assert measured_requested_capacity(run.path) == 2.0


def test_a_run_begun_by_an_earlier_version(run: RunFolder) -> None:
    in_event_files(run, {10: (1.0, 1.5), 20: (9.0, 9.0)})
    in_history(run, {20: (2.0, 2.0)})
    assert measured_requested_capacity(run.checkpoint(20)) == 2.0
    assert measured_requested_capacity(run.checkpoint(10)) == 1.25


def test_a_save_that_was_killed_is_no_checkpoint(run: RunFolder) -> None:
    in_history(run, {10: (1.0, 1.5)})
    half = run.checkpoints / "step_00000030.tmp-0123abcd"
    half.mkdir()
    (half / "state.json").write_text('{"origin": {"sources": [{"checkpoint": "/nowhere/checkpoints/step_00000030"}]}}')
    assert measured_requested_capacity(run.path) == 1.25


def test_no_log(run: RunFolder) -> None:
    with pytest.raises(CheckpointError, match="no log of requested capacities"):
        measured_requested_capacity(run.path)
