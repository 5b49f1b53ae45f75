"""Reads the weights of a checkpoint tensor by tensor, verified, without its optimizer state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.checkpoints import format as fmt
from smoe_ds.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


class WeightsReader:
    """The weights of a committed checkpoint, memory-mapped: only what is used is read.

    Args:
        folder: a checkpoint folder, ``RUN/checkpoints/step_N``.

    Attributes:
        folder: the same.
        manifest: what the checkpoint consists of.
        shapes: shape of every parameter by logical name.

    Raises:
        CheckpointError: a file of the weights is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.folder = folder
        self.manifest = fmt.read_manifest(folder)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._parts: dict[str, Any] = {}
        for entry in self.manifest.parts("model"):
            fmt.verify_file(folder, entry)
            try:
                part = safe_open(folder / entry.name, framework="pt")
            except (OSError, SafetensorError) as error:
                raise CheckpointError(f"{folder / entry.name}: is not a safetensors file ({error})") from error
            for name in part.keys():  # noqa: SIM118 - not a mapping
                self._parts[name] = part
                self.shapes[name] = tuple(part.get_slice(name).get_shape())

    def tensor(self, name: str) -> Tensor:
        """One parameter, whole, fp32."""
        return self._parts[name].get_tensor(name)


def misfit(expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], *, part: bool = False) -> str:
    """Why weights do not fit a model; empty if they do.

    Args:
        expected: shapes of the model's parameters and persistent buffers.
        found: shapes of the weights.
        part: the model is one rank's part, so that weights may be left over.
    """
    problems = [
        *_listed("missing", [name for name in expected if name not in found]),
        *_listed("not in this model", [] if part else [name for name in found if name not in expected]),
        *_listed(
            "of another shape",
            [
                f"{name} {list(found[name])} instead of {list(shape)}"
                for name, shape in expected.items()
                if name in found and tuple(found[name]) != tuple(shape)
            ],
        ),
    ]
    return "; ".join(problems)


_NAMED = 3  # names listed in a message


def _listed(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return [f"{len(names)} parameters {what} ({', '.join(names[:_NAMED])}{more})"]
