"""A model for inference: one safetensors file, beside it JSON and the vocabulary; no DeepSpeed, no ranks, no pickle.

EXPORT/model.safetensors  weights by logical parameter name, experts by their number in the whole layer
EXPORT/config.json        the resolved run: model, experts, language tokens, decoding
EXPORT/tokenizer.model    the vocabulary
EXPORT/export.json        size and SHA-256 of the three, where the weights come from, dtype, removed experts, versions
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.checkpoints import format as fmt
from smoe_ds.checkpoints.commit import write_text_durably
from smoe_ds.checkpoints.part_file import FileEntry
from smoe_ds.config.number_formats import torch_dtype
from smoe_ds.data.shards import sha256_of
from smoe_ds.errors import CheckpointError
from smoe_ds.run.exported import CONFIG, INDEX, TOKENIZER, WEIGHTS
from smoe_ds.weights.weights_folder import as_text, copy_durably, new_folder, versions

if TYPE_CHECKING:
    from torch import Tensor

FORMAT, VERSION = "smoe_ds export", 1


@dataclass(frozen=True)
class Export:
    """What an exported model says of itself.

    Attributes:
        folder: where it lies.
        step: training step of its weights.
        dtype: of its weights.
        removed_experts: logical numbers by block name; empty where the model is whole.
        files: its files.
        targets: languages that it can translate into; None: all of its vocabulary.
    """

    folder: Path
    step: int
    dtype: str
    removed_experts: dict[str, tuple[int, ...]]
    files: tuple[FileEntry, ...]
    targets: tuple[str, ...] | None = None


def cast(weights: Mapping[str, Tensor], dtype: str, exact: Collection[str]) -> dict[str, Tensor]:
    """Weights in another dtype.

    Args:
        weights: fp32, by name.
        dtype: one of `number_formats.DTYPES`.
        exact: names that stay as they are (whole numbers).

    Raises:
        CheckpointError: a number does not fit into the dtype.
    """
    import torch

    result = {}
    for name, weight in weights.items():
        result[name] = weight.contiguous() if name in exact else weight.to(torch_dtype(dtype)).contiguous()
        if not torch.equal(torch.isfinite(result[name]), torch.isfinite(weight)):
            raise CheckpointError(
                f"{name}: {weight.abs().max():g} is too large for {dtype}; export it as bfloat16 or float32"
            )
    return result


def write_export(
    folder: Path,
    config: Mapping[str, Any],
    tokenizer_file: Path,
    weights: Mapping[str, Tensor],
    *,
    step: int,
    dtype: str,
    source: Mapping[str, Any],
    removed_experts: Mapping[str, Sequence[int]],
    pruning: Mapping[str, Any] | None = None,
) -> Path:
    """Writes an exported model, all of it or nothing.

    Args:
        folder: must not exist, or be empty.
        config: the resolved run, ``RunConfig.to_dict()``.
        tokenizer_file: the vocabulary.
        weights: by logical name, in the dtype they are to have.
        step: training step of the weights.
        dtype: of the weights.
        source: where they come from, as JSON.
        removed_experts: logical numbers by block name.
        pruning: how these were chosen, as JSON.

    Raises:
        CheckpointError: the folder is taken or cannot be written.
    """
    from safetensors.torch import save_file

    with new_folder(folder) as place:
        write_text_durably(place / CONFIG, as_text(config))
        copy_durably(tokenizer_file, place / TOKENIZER)
        save_file(dict(weights), place / WEIGHTS, metadata={"format": "pt", "dtype": dtype, "step": str(step)})
        with (place / WEIGHTS).open("rb") as file:
            os.fsync(file.fileno())
        content: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "step": step,
            "dtype": dtype,
            "source": dict(source),
            "removed_experts": {name: list(numbers) for name, numbers in removed_experts.items()},
            "pruning": dict(pruning) if pruning else None,
            "versions": versions(),
            "files": [_entry(place / name).as_json() for name in (WEIGHTS, CONFIG, TOKENIZER)],
        }
        content["digest"] = _digest(content)
        write_text_durably(place / INDEX, as_text(content))
    return folder


def read_export(folder: Path) -> Export:
    """What an export says of itself; its configuration and vocabulary are verified, its weights are not yet.

    Raises:
        CheckpointError: a file is missing or damaged, or of another version.
    """
    path = folder / INDEX
    try:
        content = json.loads(path.read_bytes())
        digest = content.pop("digest")
        found = (content["format"], content["version"])
        removed = {name: tuple(numbers) for name, numbers in content["removed_experts"].items()}
        files = tuple(FileEntry(**entry) for entry in content["files"])
        targets = (content["pruning"] or {}).get("targets")
        targets = None if targets is None else tuple(targets)
        export = Export(folder, content["step"], content["dtype"], removed, files, targets)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); the file is damaged, export the model again"
        ) from error
    if digest != _digest(content):
        raise CheckpointError(f"{path}: its content does not match its digest; export the model again")
    if elsewhere := [entry.name for entry in files if not fmt.is_plain_name(entry.name)]:
        raise CheckpointError(f"{path}: names a file outside of the folder ({elsewhere[0]}); it is not ours")
    if found != (FORMAT, VERSION):
        raise CheckpointError(f"{path}: expected format and version {(FORMAT, VERSION)}, found {found}")
    for entry in files:
        if entry.name != WEIGHTS:
            fmt.verify_file(folder, entry)
    return export


def read_export_weights(export: Export) -> dict[str, Tensor]:
    """All weights of an export by logical name, hash verified.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    from safetensors.torch import load_file

    for entry in export.files:
        if entry.name == WEIGHTS:
            fmt.verify_file(export.folder, entry)
    return load_file(export.folder / WEIGHTS)


def _entry(path: Path) -> FileEntry:
    return FileEntry(path.name, path.stat().st_size, sha256_of(path))


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
