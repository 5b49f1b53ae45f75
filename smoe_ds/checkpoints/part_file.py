"""Writes one safetensors file piece by piece and hashes it meanwhile: memory holds a few pieces, never the file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.checkpoints.background_flush import BackgroundFlush
from smoe_ds.checkpoints.background_hash import BackgroundHash

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
        shapes: name and shape of each tensor, in the order of the later `write` and `append` calls.
        metadata: texts for the file's header.
    """

    def __init__(self, path: Path, shapes: Sequence[tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]) -> None:
        self.path = path
        self._expected = list(shapes)
        self._written = 0  # tensors that are complete
        self._filled = 0  # elements of the next one
        self._size = 0
        self._file = path.open("xb", buffering=0)
        self._hash = BackgroundHash()
        self._flush = BackgroundFlush(self._file.fileno())
        try:
            self._put(_header(shapes, metadata))
        except OSError:
            self.abandon()
            raise

    def write(self, name: str, tensor: Tensor) -> None:
        """Appends the next tensor, whole (CPU, fp32)."""
        if self._filled or (name, tuple(tensor.shape)) != self._next():
            raise ValueError(f"{self.path.name}: {name} {tuple(tensor.shape)} does not follow the order in the header")
        self.append(name, tensor.contiguous().reshape(-1))

    def append(self, name: str, piece: Tensor) -> None:
        """Appends the next elements of a tensor.

        Args:
            name: the tensor; it is complete when as many elements were appended as its shape says.
            piece: flat, contiguous, CPU, fp32. It is being hashed until the file is closed: leave it as it is.
        """
        expected, shape = self._next()
        self._filled += piece.numel()
        if name != expected or self._filled > math.prod(shape):
            raise ValueError(f"{self.path.name}: {piece.numel()} elements of {name} do not follow the header")
        if piece.numel():
            self._put(piece.numpy().data.cast("B"))
        if self._filled == math.prod(shape):
            self._written, self._filled = self._written + 1, 0

    def close(self) -> FileEntry:
        """Forces the file to disk.

        Raises:
            ValueError: a tensor of the header was not written to its end.
        """
        if self._written != len(self._expected):
            raise ValueError(f"{self.path.name}: {self._expected[self._written][0]} was not written")
        self._flush.finish()
        self._file.close()
        return FileEntry(self.path.name, self._size, self._hash.hexdigest())

    def abandon(self) -> None:
        """Closes the file without finishing it."""
        self._flush.stop()
        self._file.close()
        self._hash.stop()

    def _next(self) -> tuple[str | None, tuple[int, ...]]:
        return self._expected[self._written] if self._written < len(self._expected) else (None, ())

    def _put(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self._size += len(data)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._flush.written(self._size)


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
