"""``history.jsonl``: every scalar that a run logs, for whoever wants to plot or compare runs without TensorBoard.

One JSON object a line: the step, and under TensorBoard's tags what was logged with it. A step has a line for its means
and one for its validation, so a tag is in some lines only:

    {"step": 100, "train/loss": 6.41, "train/nll": 6.02, "train/learning_rate": 0.0001, ...}
    {"step": 100, "valid/nll": 5.9, "valid/perplexity": 365.0, "valid/nll/eng-nso": 5.9}

``pandas.read_json("history.jsonl", lines=True)`` reads it. A number that is not finite is ``null``, since JSON has no
word for it. Lines are in the order of their steps. Each goes to the file in one write, so a run that is killed leaves
at most a last line that is cut; readers pass it over, and the next start removes it, together with what was logged
beyond the checkpoint that it goes on from. Runs begun by earlier versions have their first steps in TensorBoard's
files only.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from smoe_ds.checkpoints.commit import remove_leftovers, write_text_durably
from smoe_ds.errors import CheckpointError

STEP = "step"
Record = dict[str, float]
"""A line: `STEP` and scalars by tag; NaN for ``null``."""


class HistoryFile:
    """Appends to ``history.jsonl``; one process does.

    Args:
        file: where it lies; made if need be.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, file: Path) -> None:
        self._path = file
        self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def append(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes a line.

        Args:
            step: the step that the scalars belong to.
            scalars: by tag.

        Raises:
            CheckpointError: the line cannot be written.
        """
        values = {tag: value if math.isfinite(value) else None for tag, value in scalars.items()}
        line = json.dumps({STEP: step, **values}, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        try:
            written = os.write(self._descriptor, line)
            if written < len(line):  # no room for the rest
                raise OSError(f"wrote {written} of {len(line)} bytes")
        except OSError as error:
            raise CheckpointError(f"{self._path}: cannot be written ({error}); free space there and go on") from error

    def close(self) -> None:
        """Ends writing; everything is in the file already."""
        os.close(self._descriptor)


def cut_history(file: Path, belongs: Callable[[Record], bool]) -> None:
    """Removes what does not belong to the run that goes on, at once or not at all, and lines that are damaged.

    Args:
        file: ``history.jsonl``; need not be there.
        belongs: whether a line is to stay.

    Raises:
        OSError: it cannot be read or written.
    """
    remove_leftovers(file.parent, file.name)
    if not file.is_file():
        return
    before = file.read_bytes()
    kept = b"".join(line for line in before.splitlines(keepends=True) if (r := _parse(line)) and belongs(r))
    if kept != before:
        write_text_durably(file, kept.decode())


def read_records(file: Path) -> Iterator[Record]:
    """The whole lines of ``history.jsonl``, in order; a last line without an end was cut and is passed over.

    Raises:
        CheckpointError: the file cannot be read, or a line is no such object.
    """
    try:
        lines = file.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from error
    for number, line in enumerate(lines, start=1):
        record = _parse(line)
        if record is not None:
            yield record
        elif line.endswith(b"\n"):
            raise CheckpointError(f"{file}, line {number}: is damaged; remove the line")


def read_history(file: Path) -> dict[str, dict[int, float]]:
    """All scalars of a run, by tag and step.

    Args:
        file: ``history.jsonl``, see `smoe_ds.run.folder.RunFolder.history`.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    history: dict[str, dict[int, float]] = {}
    for record in read_records(file):
        step = int(record[STEP])
        for tag, value in record.items():
            if tag != STEP:
                history.setdefault(tag, {})[step] = value
    return history


def _parse(line: bytes) -> Record | None:
    """A line's record; None if the line is cut or damaged."""
    if not line.endswith(b"\n"):
        return None
    try:
        content = json.loads(line)
        record = {tag: math.nan if value is None else value for tag, value in content.items()}
        return record if isinstance(record[STEP], int) else None
    except (ValueError, AttributeError, KeyError, RecursionError):
        return None
