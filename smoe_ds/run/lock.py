"""One start of a run at a time writes to a run folder."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from smoe_ds import file_lock
from smoe_ds.errors import ConfigError
from smoe_ds.run.folder import RunFolder

_PATIENCE = 2.0  # seconds; a watcher of a start that has failed holds the lock for as long as it writes a file


def make_folder(path: str) -> Path:
    """The run folder, made if need be; every rank tries to write there before anything else is done.

    Raises:
        ConfigError: it cannot be written.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"smoe.train.output_dir: {folder} cannot be written ({error}); choose another smoe.train.output_dir"
        ) from error
    return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds ``run.lock`` in a run folder. Where a file system has no locks, that is said.

    Raises:
        ConfigError: another process holds it.
    """

    def no_locks() -> None:
        print(f"note: {folder}: this file system has no locks; do not start a second run in it", file=sys.stderr)

    path = RunFolder(folder).lock
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock.locked(path, no_locks, patience=_PATIENCE))
        except file_lock.HeldError as error:
            raise ConfigError(
                f"smoe.train.output_dir: {error.holder} is training in {folder} ({path} is locked); wait for it, "
                "stop it, or choose another smoe.train.output_dir"
            ) from error
        yield
