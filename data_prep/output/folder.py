"""The folder that is written: complete or not there; never half of it, and never over somebody else's files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from data_prep.output.lock import locked
from data_prep.output.output_place import check_outside, check_replaceable, output_place
from data_prep.own_folders import LOCK, check_own, clear, is_own, remove, remove_own
from data_prep.progress import Progress
from data_prep.stages.pieces import Pieces, needing, sync_folder
from data_prep.stages.write_shard import CORPUS
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.manifest import MANIFEST, read_manifest, shard_files, write_manifest
from smoe_ds.data.shards import sha256_of
from smoe_ds.errors import DataError

_FAILED = "failed"  # there after a run that ended with an error
PLACES = (CORPUS, "records", "drafts", "raw", "clean", "ids", _FAILED)
"""What is in the work folder; see FORMAT.md."""

_EARLIER = "earlier"  # the result that is replaced, between two renames


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
        DataError: the folder holds something else, or a damaged corpus, or is inside another corpus; or something
            besides the corpus would be lost by replacing it.
    """
    try:
        is_free = not output.exists() or (output.is_dir() and not any(output.iterdir()))
        is_corpus = not is_free and (output / MANIFEST).is_file()
    except OSError as error:
        remedy = "make the folders on its path readable, or choose another output"
        raise DataError(f"{output}: cannot be read: {error.strerror}; {remedy}") from error
    if is_free:
        check_outside(output)
        return None
    if not is_corpus:
        raise DataError(f"{output}: exists, but has no {MANIFEST}; choose another output or remove it yourself")
    if overwrite:
        check_outside(output)
        check_replaceable(output)
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


def work_folder(output: Path) -> Path:
    """The folder beside the output in which it is made."""
    output = output_place(output)
    return output.with_name(f"{output.name}.work")


def kept(work: Path, *, interrupted: bool) -> str:
    """What a preparation that did not finish leaves, in words; "" if nothing.

    Args:
        work: its work folder.
        interrupted: it was stopped from outside, so the same command will do; after an error it may not.
    """
    number = Pieces(work).count()
    if not number:
        return ""
    how = "run the same command again to go on" if interrupted else "they are used again once the error is fixed"
    return f"{number:,} finished pieces are kept in {work}; {how}, or remove that folder"


@contextmanager
def working(output: Path, progress: Progress) -> Iterator[Pieces]:
    """The folder in which the output is made, locked; finished pieces of an interrupted run are in it.

    After an error or an interruption finished pieces stay; without any the folder vanishes.

    Raises:
        DataError: the folder cannot be made or is not a preparation's, or another process works in it.
    """
    work = work_folder(output)
    check_own(work, (*PLACES, _EARLIER), output)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{work}: cannot make the folder: {error.strerror}; fix this, or choose another output"
        ) from error
    pieces = Pieces(work)
    with locked(work / LOCK, output, progress.say):
        progress.work = work
        _recover(work, output)
        for name in ("drafts", "raw", "records/raw"):
            remove(work / name)
        if pieces.count():
            end = "ended with an error" if (work / _FAILED).exists() else "was interrupted"
            progress.say(f"an earlier run {end}: {pieces.count():,} finished pieces in {work} are checked")
        (work / _FAILED).unlink(missing_ok=True)
        try:
            yield pieces
        except Exception:
            with suppress(OSError):
                (work / _FAILED).touch()
            raise
        finally:
            if not pieces.count():
                remove_own(work, PLACES)


def clear_remains(output: Path, progress: Progress) -> None:
    """Removes the remains of a preparation that was finished, but for its last steps; tells of others."""
    work = work_folder(output)
    if not is_own(work, (*PLACES, _EARLIER), output):
        return
    if (work / CORPUS).exists():
        progress.say(f"note: {work} has pieces of another preparation; if you no longer want them, remove it")
        return
    with locked(work / LOCK, output, progress.say):
        _recover(work, output)
        remove_own(work, PLACES)


def finish(pieces: Pieces, output: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest and puts the corpus in its place; an earlier result there is replaced.

    Raises:
        DataError: the corpus cannot be put there.
    """
    corpus = pieces.root / CORPUS
    listed = {corpus / name for name, _ in shard_files(manifest)}
    for path in sorted(corpus.rglob("*"), reverse=True):  # files before their folders
        if path.is_file() and path not in listed:
            path.unlink()  # of a preparation with another specification
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    with needing(corpus / MANIFEST, len(json.dumps(manifest, indent=1))):
        write_manifest(corpus, manifest)
    for folder in [corpus, *(path for path in corpus.rglob("*") if path.is_dir())]:
        sync_folder(folder)
    _replace(pieces.root, output)
    clear(pieces.root, PLACES)


def _replace(work: Path, output: Path) -> None:
    try:
        if (output / MANIFEST).is_file():
            check_replaceable(output)  # it may have changed meanwhile
            output.rename(work / _EARLIER)
        (work / CORPUS).rename(output)
    except OSError as error:
        _recover(work, output)
        raise DataError(f"{output}: cannot put the corpus in its place: {error.strerror}") from error
    sync_folder(output.parent)
    _recover(work, output)


def _recover(work: Path, output: Path) -> None:
    """Completes or undoes a replacement: the earlier result goes if the new one is there, else back to its place."""
    earlier = work / _EARLIER
    if not earlier.exists():
        return
    if (output / MANIFEST).is_file():
        remove(earlier)
    elif not output.exists():
        earlier.rename(output)
