"""The checkpoint on disk: names, manifest, verification, and reading the weights without DeepSpeed.

CHECKPOINTS/step_00000100/manifest.json            every file with size and SHA-256; its presence makes the folder one
CHECKPOINTS/step_00000100/state.json               what the trainer handed in, counters, topology, versions
CHECKPOINTS/step_00000100/model-00000.safetensors  fp32 weights that rank 0 wrote, by logical parameter name
CHECKPOINTS/step_00000100/optimizer-00000.safetensors   Adam: exp_avg/NAME, exp_avg_sq/NAME; step counts in the header
CHECKPOINTS/latest, CHECKPOINTS/best               a folder's name
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.checkpoints.commit import write_text_durably
from smoe_ds.checkpoints.part_file import FileEntry
from smoe_ds.data.shards import sha256_of
from smoe_ds.errors import CheckpointError
from smoe_ds.run_names import CHECKPOINTS

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "smoe_ds checkpoint"
VERSION = 1
MANIFEST = "manifest.json"
STATE = "state.json"
LATEST, BEST = "latest", "best"
LEFTOVERS = ("step_*", LATEST, BEST)
"""Patterns of what a killed save can have left half-done, see `smoe_ds.checkpoints.commit.remove_leftovers`."""
MASTER = "master"
"""Kind of tensor: the fp32 weight."""
MOMENTS = ("exp_avg", "exp_avg_sq")
"""Kinds of tensor: Adam's moments."""
_PLAIN_NAME = re.compile(r"\w[\w.-]*")
_FOLDER = re.compile(r"step_(\d{8,})")


@dataclass(frozen=True)
class Manifest:
    """What a committed folder consists of."""

    step: int
    files: tuple[FileEntry, ...]

    def parts(self, kind: str) -> list[FileEntry]:
        """The files of kind "model" or "optimizer"."""
        return [entry for entry in self.files if re.fullmatch(rf"{kind}-\d+\.safetensors", entry.name)]


def folder_name(step: int) -> str:
    return f"step_{step:08d}"


def part_name(kind: str, rank: int) -> str:
    return f"{kind}-{rank:05d}.safetensors"


def is_checkpoint_name(name: str) -> bool:
    return _FOLDER.fullmatch(name) is not None


def is_plain_name(name: object) -> bool:
    """Whether it names a file without a folder."""
    return isinstance(name, str) and _PLAIN_NAME.fullmatch(name) is not None


def step_of(folder: Path) -> int:
    match = _FOLDER.fullmatch(folder.name)
    if match is None:
        raise CheckpointError(f"{folder}: expected a folder named like {folder_name(100)}")
    return int(match[1])


def step_folders(root: Path) -> list[Path]:
    """Committed folders under `root`, newest first (temporary ones have other names)."""
    found = [path for path in root.iterdir() if _FOLDER.fullmatch(path.name)] if root.is_dir() else []
    return sorted(found, key=step_of, reverse=True)


def write_manifest(folder: Path, step: int, files: Iterable[FileEntry]) -> None:
    """Writes the manifest, the last file of a checkpoint; it carries a digest of itself."""
    content = {"format": FORMAT, "version": VERSION, "step": step, "files": [entry.as_json() for entry in files]}
    content["digest"] = _digest(content)
    write_text_durably(folder / MANIFEST, _manifest_text(content))


def read_manifest(folder: Path) -> Manifest:
    """Reads and checks the manifest itself, not the files it names.

    Raises:
        CheckpointError: it is missing or damaged, of another version, or belongs to another step.
    """
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
        content = json.loads(text)
        as_written = text == _manifest_text(content).encode()
        digest = content.pop("digest")
        files = tuple(FileEntry(**entry) for entry in content["files"])
        found = (content["format"], content["version"], content["step"])
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: {MANIFEST} is missing; this checkpoint was never finished") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); the file is damaged"
        ) from error
    if not as_written or digest != _digest(content):
        raise CheckpointError(f"{path}: its content does not match its digest; the file is damaged")
    if elsewhere := [entry.name for entry in files if not is_plain_name(entry.name)]:
        raise CheckpointError(f"{path}: names a file outside of the folder ({elsewhere[0]}); it is not ours")
    expected = (FORMAT, VERSION, step_of(folder))
    if found != expected:
        raise CheckpointError(f"{path}: expected format, version and step {expected}, found {found}")
    return Manifest(found[2], files)


def verify_size(folder: Path, entry: FileEntry) -> None:
    """Compares a file's size with its manifest entry.

    Raises:
        CheckpointError: the file is missing or unreadable, or its size is another one.
    """
    path = folder / entry.name
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise CheckpointError(f"{path}: missing, but listed in {MANIFEST}") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    if size != entry.bytes:
        raise CheckpointError(f"{path}: {size} bytes, expected {entry.bytes}; the file is truncated or not ours")


def verify_file(folder: Path, entry: FileEntry) -> None:
    """Compares a file with its manifest entry.

    Raises:
        CheckpointError: the file is missing or unreadable, or its size or SHA-256 is another one.
    """
    verify_size(folder, entry)
    path = folder / entry.name
    try:
        found = sha256_of(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    if found != entry.sha256:
        raise CheckpointError(
            f"{path}: SHA-256 is {found[:12]}..., expected {entry.sha256[:12]}...; the file is damaged"
        )


def read_pointer(root: Path, which: str) -> str | None:
    """The folder name in ``latest`` or ``best``, or None without such a file; what is no text is shown escaped."""
    path = root / which
    return path.read_text(encoding="utf-8", errors="backslashreplace").strip() if path.is_file() else None


def resolve_checkpoint(path: Path, which: str | int = BEST) -> Path:
    """The checkpoint folder that is meant.

    Args:
        path: a checkpoint folder itself, the folder of checkpoints, or the run folder that holds ``checkpoints``.
        which: "best" (or the newest, if no best was kept yet), "latest" or a step.

    Raises:
        CheckpointError: there is none.
    """
    if _FOLDER.fullmatch(path.name) and path.is_dir():
        return path
    root = path / CHECKPOINTS if (path / CHECKPOINTS).is_dir() else path
    folders = step_folders(root)
    if not folders:
        raise CheckpointError(f"{path}: has no checkpoint; expected folders named like {folder_name(100)}")
    name: str | None
    if isinstance(which, int):
        name = folder_name(which)
    else:
        name = read_pointer(root, which)
        if name is None and which in (LATEST, BEST):
            name = read_pointer(root, LATEST) or folders[0].name
    if name is None or root / name not in folders:
        known = ", ".join(str(step_of(folder)) for folder in reversed(folders))
        raise CheckpointError(f"{root}: no checkpoint {which!r} ({name}); there are the steps {known}")
    return root / name


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All parameters of a checkpoint by logical name, fp32, hashes verified. Needs neither DeepSpeed nor ranks.

    Raises:
        CheckpointError: a file of the weights is missing or damaged.
    """
    from safetensors.torch import load_file

    weights: dict[str, Tensor] = {}
    for entry in read_manifest(folder).parts("model"):
        verify_file(folder, entry)
        weights.update(load_file(folder / entry.name))
    return weights


def write_state(folder: Path, content: Mapping[str, Any]) -> FileEntry:
    """Writes ``state.json``: the step, what the trainer keeps or where the weights come from, versions.

    Raises:
        TypeError: there is something that JSON cannot carry.
    """
    text = json.dumps(content, indent=1) + "\n"
    write_text_durably(folder / STATE, text)
    return FileEntry(STATE, len(text.encode()), hashlib.sha256(text.encode()).hexdigest())


def read_state(folder: Path) -> dict[str, Any]:
    """``state.json`` of a verified checkpoint.

    Raises:
        CheckpointError: it is no JSON object.
    """
    path = folder / STATE
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({type(error).__name__}: {error}); it is not ours") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(content).__name__}; it is not ours")
    return content


def _manifest_text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
