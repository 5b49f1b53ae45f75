"""Reads the tensors of a verified checkpoint by logical name, from whichever part file has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.engine.format import Manifest
from smoe_ds.engine.fragments import MASTER

if TYPE_CHECKING:
    from torch import Tensor


class PartReader:
    """The part files of one checkpoint, memory-mapped: only what is used is read.

    Attributes:
        names: every parameter in the checkpoint.
        steps: Adam steps by parameter.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        from safetensors import safe_open

        self.steps: dict[str, int] = {}
        self._model: dict[str, Any] = {}
        self._optimizer: dict[str, Any] = {}
        for entry in manifest.parts("model"):
            part = safe_open(folder / entry.name, framework="pt")
            self._model.update(dict.fromkeys(part.keys(), part))
        for entry in manifest.parts("optimizer"):
            part = safe_open(folder / entry.name, framework="pt")
            self._optimizer.update(dict.fromkeys(part.keys(), part))
            self.steps.update(json.loads(part.metadata()["steps"]))
        self.names = tuple(self._model)

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
            found = tuple(self._model[name].get_slice(name).get_shape())
            if found != shape:
                return f"{name} has shape {list(found)} in the checkpoint, {list(shape)} in the model"
        return None
