"""Writes a run folder that holds weights alone: it decodes, exports and starts other runs, but resumes none.

OUT/config.json, OUT/tokenizer.model             as in the run folder the weights come from
OUT/checkpoints/step_N/model-00000.safetensors   fp32 weights by logical parameter name
OUT/checkpoints/step_N/state.json                where the weights come from (``origin``), versions
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.checkpoints import format as fmt
from smoe_ds.checkpoints.commit import commit_folder, discard_folder, sync_folder, temporary_folder, write_text_durably
from smoe_ds.checkpoints.part_file import PartFile
from smoe_ds.checkpoints.vocabulary import VOCABULARY
from smoe_ds.data.shards import sha256_of
from smoe_ds.errors import CheckpointError
from smoe_ds.run.folder import RunFolder
from smoe_ds.versions import installed_versions

if TYPE_CHECKING:
    from torch import Tensor

_PACKAGES = ("smoe_ds", "torch", "safetensors")


def write_weights_run(
    folder: Path,
    config: Mapping[str, Any],
    tokenizer_file: Path,
    step: int,
    shapes: Mapping[str, tuple[int, ...]],
    tensor: Callable[[str], Tensor],
    origin: Mapping[str, Any],
) -> Path:
    """Writes the folder, all at once or not at all.

    Args:
        folder: the new run folder; must not exist, or be empty.
        config: the resolved run, ``RunConfig.to_dict()``.
        tokenizer_file: the vocabulary.
        step: number of its checkpoint.
        shapes: shape of every parameter by logical name.
        tensor: gives the weight of a name, fp32 on the CPU; one is in memory at a time.
        origin: where the weights come from, as JSON.

    Returns:
        The checkpoint folder.

    Raises:
        CheckpointError: the folder is taken or cannot be written.
    """
    with new_folder(folder) as place:
        run = RunFolder(place)
        write_text_durably(run.config, as_text(config))
        copy_durably(tokenizer_file, run.tokenizer)
        extra = {VOCABULARY: sha256_of(run.tokenizer)}
        _write_checkpoint(run.checkpoint(step), step, shapes, tensor, {"extra": extra, "origin": origin})
        for pointer in (run.latest, run.best):
            write_text_durably(pointer, f"{fmt.folder_name(step)}\n")
    return RunFolder(folder).checkpoint(step)


def _write_checkpoint(
    folder: Path,
    step: int,
    shapes: Mapping[str, tuple[int, ...]],
    tensor: Callable[[str], Tensor],
    known: Mapping[str, Any],
) -> None:
    folder.mkdir(parents=True)
    part = PartFile(folder / fmt.part_name("model", 0), list(shapes.items()), {})
    try:
        for name in shapes:
            part.write(name, tensor(name))
        weights = part.close()
    except BaseException:
        part.abandon()
        raise
    state = fmt.write_state(folder, {"step": step, **known, "versions": versions()})
    fmt.write_manifest(folder, step, [weights, state])


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A place to write into that becomes ``folder`` when all is written.

    Raises:
        CheckpointError: the folder is taken or cannot be written.
    """
    from safetensors import SafetensorError

    check_free(folder)
    try:
        temporary = temporary_folder(folder)
        try:
            yield temporary
            commit_folder(temporary, folder)
        except BaseException:
            if temporary.exists():
                discard_folder(temporary)
            raise
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: cannot be written: {error}; choose another --output") from error


def check_free(folder: Path) -> None:
    """Refuses a place for output where something is already.

    Raises:
        CheckpointError: there is.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise CheckpointError(f"{folder}: is there already; choose another --output, or remove it")


def versions() -> dict[str, str]:
    """Versions of the packages that wrote a file of weights."""
    return installed_versions(_PACKAGES)


def copy_durably(source: Path, target: Path) -> None:
    """Copies a file and forces it to disk."""
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    sync_folder(target.parent)


def as_text(value: Mapping[str, Any]) -> str:
    """A JSON file's text."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
