"""Files and folders that a command writes where ``--output`` says."""

from __future__ import annotations

from pathlib import Path

from smoe_ds.errors import DataError


def make_folder(path: Path) -> Path:
    """Creates a folder before the work begins, so that a place that cannot be written costs no time.

    Raises:
        DataError: it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be created: {error.strerror}; choose another place with --output") from error
    return path


def write_text(path: Path, text: str) -> None:
    """Creates or replaces a small file at once.

    Raises:
        DataError: it cannot be written.
    """
    from smoe_ds.checkpoints.commit import write_text_durably

    try:
        write_text_durably(path, text)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}; choose another place with --output") from error
