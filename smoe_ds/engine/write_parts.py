"""One rank's part of a checkpoint: a file of weights and a file of Adam's moments, written side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.checkpoints import format as fmt
from smoe_ds.checkpoints.format import MASTER, MOMENTS
from smoe_ds.checkpoints.part_file import FileEntry, PartFile
from smoe_ds.engine.protocol import TrainingState
from smoe_ds.engine.state import gather_state, owned_parameters, persistent_buffers

if TYPE_CHECKING:
    from torch import Tensor


def write_parts(engine: TrainingState, folder: Path) -> tuple[list[FileEntry], str | None]:
    """Writes this rank's part files. A collective.

    Returns:
        The files, and what went wrong as text: this comes back instead of an error, after all collectives were gone
        through, so that no rank waits for one that could not write.
    """
    import torch.distributed as dist

    rank = dist.get_rank()
    owned = owned_parameters(engine)
    buffers = persistent_buffers(engine.module) if rank == 0 else {}
    weights = [(item.name, item.shape) for item in owned] + [(name, tuple(b.shape)) for name, b in buffers.items()]
    trained = [item for item in owned if item.step is not None]
    moments = [(f"{key}/{item.name}", item.shape) for item in trained for key in MOMENTS]
    steps = {"steps": json.dumps({item.name: item.step for item in trained})}
    files = _Files()
    if weights:
        files.open("model", folder / fmt.part_name("model", rank), weights, {})
    if moments:
        files.open("optimizer", folder / fmt.part_name("optimizer", rank), moments, steps)
    for name, key, piece in gather_state(engine):
        files.append(*(("model", name) if key == MASTER else ("optimizer", f"{key}/{name}")), piece)
    for name, buffer in buffers.items():
        files.append("model", name, _flat(buffer))
    return files.close()


class _Files:
    """Part files by kind, until the first error, which is kept; what comes after it is not written."""

    def __init__(self) -> None:
        self._parts: dict[str, PartFile] = {}
        self._problem: str | None = None

    def open(self, kind: str, path: Path, shapes: list[tuple[str, tuple[int, ...]]], metadata: dict[str, str]) -> None:
        if self._problem is None:
            try:
                self._parts[kind] = PartFile(path, shapes, metadata)
            except OSError as error:
                self._problem = str(error)

    def append(self, kind: str, name: str, piece: Tensor) -> None:
        if self._problem is None:
            try:
                self._parts[kind].append(name, piece)
            except OSError as error:
                self._problem = f"{name}: {error}"

    def close(self) -> tuple[list[FileEntry], str | None]:
        if self._problem is None:
            try:
                return [part.close() for part in self._parts.values()], None
            except OSError as error:
                self._problem = str(error)
        for part in self._parts.values():
            part.abandon()
        return [], self._problem


def _flat(buffer: Tensor) -> Tensor:
    import torch

    return buffer.to("cpu", torch.float32).reshape(-1).contiguous()
