"""Who hears what a run tells: the console, TensorBoard and ``history.jsonl``, on rank 0; on other ranks nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from smoe_ds.run.folder import RunFolder
from smoe_ds.run.history import STEP, HistoryFile, Record, cut_history
from smoe_ds.text_line import spelled_out
from smoe_ds.train.log_events import VALIDATION, Event
from smoe_ds.train.progress import Progress
from smoe_ds.train.tensorboard_layout import custom_scalars


class Listener(Protocol):
    """Hears every event in its order."""

    def hear(self, event: Event) -> None:
        """Takes from an event what is for this listener."""

    def close(self) -> None:
        """Writes everything out."""


class Console:
    """Prints the lines of events."""

    def hear(self, event: Event) -> None:
        for line in event.lines():
            print(spelled_out(line), flush=True)

    def close(self) -> None:
        pass


class TensorBoard:
    """Writes scalars, texts and pictures of events for TensorBoard, and the layout of its custom scalars.

    Args:
        folder: where.
        step: that the run goes on from; what an interrupted run logged beyond it is hidden by TensorBoard.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step + 1)
        self._writer.add_custom_scalars(custom_scalars())

    def hear(self, event: Event) -> None:
        for tag, value in (event.scalars() | event.overview()).items():
            self._writer.add_scalar(tag, value, event.step)
        for tag, text in event.texts().items():
            self._writer.add_text(tag, "    " + text.replace("\n", "\n    "), event.step)
        for tag, picture in event.images().items():
            self._writer.add_image(tag, picture, event.step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class History:
    """Writes the scalars of events into ``history.jsonl``, see `smoe_ds.run.history`.

    Args:
        file: where.
        progress: what the run goes on from; what was logged beyond it is cut off.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, file: Path, progress: Progress) -> None:
        def belongs(record: Record) -> bool:
            """A run that ended between its last validation and the checkpoint after it validates once more."""
            return record[STEP] <= (progress.last_validation if VALIDATION in record else progress.step)

        cut_history(file, belongs)
        self._file = HistoryFile(file)

    def hear(self, event: Event) -> None:
        if scalars := event.scalars():
            self._file.append(event.step, scalars)

    def close(self) -> None:
        self._file.close()


def open_listeners(folder: RunFolder, progress: Progress, rank: int) -> list[Listener]:
    """The listeners of a rank.

    Args:
        folder: the run folder; it exists.
        progress: what the run goes on from.
        rank: the rank.

    Raises:
        OSError: the folder cannot be written.
    """
    if rank:
        return []
    return [Console(), TensorBoard(folder.tensorboard, progress.step), History(folder.history, progress)]
