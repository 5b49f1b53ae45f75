"""Reads the tensors of a verified checkpoint by logical name, from whichever part file has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.checkpoints.format import MASTER, MOMENTS, Manifest
from smoe_ds.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


class PartReader:
    """The part files of one checkpoint, memory-mapped: only what is used is read.

    Attributes:
        names: every parameter in the checkpoint.
        shapes: their shapes.
        steps: Adam steps by parameter.

    Raises:
        CheckpointError: a file is none of safetensors, or moments and weights do not belong together.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.steps: dict[str, int] = {}
        self._model: dict[str, Any] = {}
        self._optimizer: dict[str, Any] = {}
        for entry in manifest.parts("model"):
            part = _open(folder / entry.name)
            self._model.update(dict.fromkeys(part.keys(), part))
        for entry in manifest.parts("optimizer"):
            part = _open(folder / entry.name)
            self._optimizer.update(dict.fromkeys(part.keys(), part))
            self.steps.update(_steps(folder / entry.name, part))
        self.names = tuple(self._model)
        self.shapes = {name: tuple(part.get_slice(name).get_shape()) for name, part in self._model.items()}
        lacking = [name for name in self.steps for key in MOMENTS if f"{key}/{name}" not in self._optimizer]
        if lacking or not self.steps.keys() <= self._model.keys():
            odd = (lacking or sorted(self.steps.keys() - self._model.keys()))[0]
            raise CheckpointError(f"{folder}: weight and moments of {odd} are not all there; the folder is damaged")

    def tensor(self, name: str, key: str) -> Tensor:
        """The fp32 weight ("master") or a moment of a parameter, whole."""
        if key == MASTER:
            return self._model[name].get_tensor(name)
        return self._optimizer[f"{key}/{name}"].get_tensor(f"{key}/{name}")

    def misfit(self, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
        """Why parameters of these names and shapes cannot be filled, or None."""
        missing = sorted(set(shapes) - set(self._model))
        if missing:
            return f"{len(missing)} parameters of the model are not in the checkpoint, the first is {missing[0]}"
        for name, shape in sorted(shapes.items()):
            if (found := self.shapes[name]) != shape:
                return f"{name} has shape {list(found)} in the checkpoint, {list(shape)} in the model"
        return None


def _open(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: is not a safetensors file ({error}); the file is damaged or not ours"
        ) from error


def _steps(path: Path, part: Any) -> dict[str, int]:
    try:
        return {str(name): int(step) for name, step in json.loads(part.metadata()["steps"]).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: its header has no step counts ({error}); the file is not ours") from error
