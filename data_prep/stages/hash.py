"""First stage: hashes the files that a corpus is made from, so that a change of any of them is noticed."""

from __future__ import annotations

from pathlib import Path

from data_prep.stages.read_piece import text_files
from data_prep.stages.run import Run
from smoe_ds.data.shards import sha256_of
from smoe_ds.data.splits import SPLITS
from smoe_ds.errors import DataError


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; copy or download it again") from error


class Inputs:
    """The files that the texts are read from, and a given vocabulary, by name, with what they hold."""

    def __init__(self, run: Run) -> None:
        """Hashes all files."""
        self._base = run.base
        names = {name for pair in run.spec.pairs for split in SPLITS for name in text_files(pair, split)}
        if run.spec.sentencepiece.model is not None:
            names.add(run.spec.sentencepiece.model)
        self._seen = {name: self._state(name) for name in sorted(names)}
        for name in self._seen:
            run.workers.submit(("hashing", name), _sha256, run.base / name)
        sha256 = {name: digest for (_, name), digest in run.workers.results()}
        self.entries = {name: {"file": name, "bytes": size, "sha256": sha256[name]}
                        for name, (size, _) in self._seen.items()}  # fmt: skip

    def _state(self, name: str) -> tuple[int, int]:
        state = (self._base / name).stat()
        return state.st_size, state.st_mtime_ns

    def check_unchanged(self) -> None:
        """Makes sure that what was read is what was hashed.

        Raises:
            DataError: a file changed in size or time of modification.
        """
        for name, seen in self._seen.items():
            if self._state(name) != seen:
                raise DataError(f"{self._base / name}: changed while it was read; run the same command again")
