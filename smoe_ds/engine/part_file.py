"""Writes one safetensors file tensor by tensor, hashing as it goes, so that memory holds one tensor at a time."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_BYTES_PER_ELEMENT = 4  # everything in a checkpoint is fp32


@dataclass(frozen=True)
class FileEntry:
    """A file of a checkpoint as the manifest knows it."""

    name: str
    bytes: int
    sha256: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class PartFile:
    """A safetensors file of fp32 tensors whose names and shapes are known before their values.

    Args:
        path: file to create.
        shapes: name and shape of each tensor, in the order of the later `write` calls.
        metadata: texts for the file's header.
    """

    def __init__(self, path: Path, shapes: Sequence[tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]) -> None:
        self.path = path
        self._expected = list(shapes)
        self._written = 0
        self._hash = hashlib.sha256()
        self._size = 0
        self._file = path.open("xb", buffering=0)
        self._put(_header(shapes, metadata))

    def write(self, name: str, tensor: Tensor) -> None:
        """Appends the next tensor (CPU, fp32)."""
        if self._written == len(self._expected) or (name, tuple(tensor.shape)) != self._expected[self._written]:
            raise ValueError(f"{self.path.name}: {name} {tuple(tensor.shape)} does not follow the order in the header")
        self._put(tensor.contiguous().reshape(-1).numpy().data.cast("B") if tensor.numel() else b"")
        self._written += 1

    def close(self) -> FileEntry:
        """Forces the file to disk.

        Raises:
            ValueError: a tensor of the header was never written.
        """
        if self._written != len(self._expected):
            raise ValueError(f"{self.path.name}: {self._expected[self._written][0]} was not written")
        os.fsync(self._file.fileno())
        self._file.close()
        return FileEntry(self.path.name, self._size, self._hash.hexdigest())

    def abandon(self) -> None:
        """Closes the file without finishing it."""
        self._file.close()

    def _put(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self._size += len(data)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]


def _header(shapes: Sequence[tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]) -> bytes:
    """Length and JSON header: https://huggingface.co/docs/safetensors, "Format"."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, shape in shapes:
        begin, end = end, end + math.prod(shape) * _BYTES_PER_ELEMENT
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
