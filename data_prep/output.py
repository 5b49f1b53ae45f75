"""The folder that is written: complete or not there; never half of it, and never over somebody else's files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smoe_ds.data.corpus import Corpus
from smoe_ds.data.shards import MANIFEST, read_manifest, sha256_of
from smoe_ds.errors import DataError


def find_finished(
    output: Path, spec: dict[str, Any], spec_sha256: str, base: Path, *, overwrite: bool
) -> Corpus | None:
    """Looks for an earlier result in the output folder.

    Args:
        output: the folder.
        spec: the specification as the manifest keeps it.
        spec_sha256: its hash.
        base: folder that the inputs' relative paths are relative to.
        overwrite: an earlier result will be replaced.

    Returns:
        the corpus, verified, if it was prepared from this specification and these inputs; None if there is none, or
        it is to be replaced.

    Raises:
        DataError: the folder holds something else, or a damaged corpus.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return None
    if not (output / MANIFEST).is_file():
        raise DataError(f"{output}: exists and holds no {MANIFEST}; choose another output or remove it yourself")
    if overwrite:
        return None
    manifest = read_manifest(output)
    if manifest.get("spec_sha256") != spec_sha256:
        differences = "; ".join(_differences(manifest.get("spec", {}), spec)) or "another version of data_prep"
        raise DataError(
            f"{output}: was prepared from another specification ({differences}); "
            "choose another output or add --overwrite"
        )
    corpus = Corpus(output, verify=True)
    for entry in manifest["inputs"]:
        path = base / entry["file"]
        if path.is_file() and (path.stat().st_size != entry["bytes"] or sha256_of(path) != entry["sha256"]):
            raise DataError(f"{output}: was prepared before {path} changed; add --overwrite to prepare it again")
    return corpus


def _differences(there: Any, here: Any, key: str = "") -> Iterator[str]:
    """What two specifications differ in, e.g. ``sentencepiece.vocab_size is 8000 there and 4000 here``."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name in [*here, *(name for name in there if name not in here)]:
            yield from _differences(there.get(name), here.get(name), f"{key}.{name}" if key else name)
    elif there != here:
        shown = [text if len(text) < 40 else text[:37] + "..." for text in (str(there), str(here))]
        yield f"{key} is {shown[0]} there and {shown[1]} here"


def left_over(output: Path) -> list[Path]:
    """Temporary folders beside the output, of preparations that still run or were killed."""
    return sorted(path for path in output.parent.glob(f"{output.name}.tmp-*") if path.is_dir())


@contextmanager
def building(output: Path) -> Iterator[Path]:
    """A temporary folder beside the output, which takes its place when the block ends without an error.

    Everything is on the disk before that; after an error, or Ctrl-C, nothing is left behind.

    Raises:
        DataError: the folder cannot be made, or another process has written the output meanwhile.
    """
    temporary = output.with_name(f"{output.name}.tmp-{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise DataError(f"{temporary}: cannot make the folder: {error.strerror}") from error
    try:
        yield temporary
        _sync_folders(temporary)
        _replace(temporary, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync_folders(folder: Path) -> None:
    for path in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        _sync(path)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(temporary: Path, output: Path) -> None:
    old = output.with_name(f"{output.name}.old-{os.getpid()}")
    try:
        if (output / MANIFEST).is_file():
            output.rename(old)
        temporary.rename(output)
    except OSError as error:
        if old.exists() and not output.exists():
            old.rename(output)
        raise DataError(f"{output}: cannot put the corpus in its place: {error.strerror}") from error
    _sync(output.parent)
    shutil.rmtree(old, ignore_errors=True)
