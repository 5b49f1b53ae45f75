"""The tensors of a folder of transformers, read one at a time: safetensors, or pickles that the user trusts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.checkpoints.format import is_plain_name
from smoe_ds.errors import CheckpointError
from smoe_ds.huggingface.folder import read_json

if TYPE_CHECKING:
    from torch import Tensor

SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
_AGAIN = "download it again"


class FolderTensors:
    """All tensors of a folder, in one file or in several that an index lists.

    Args:
        folder: where they are.
        trust: whether pickled files may be read.

    Attributes:
        shapes: shape of every tensor by name.

    Raises:
        CheckpointError: there are none, a file is missing, damaged or outside of the folder, or files are pickled and
            not trusted.
    """

    def __init__(self, folder: Path, *, trust: bool) -> None:
        self.folder = folder
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._files: dict[str, _Safetensors | _Pickle] = {}
        names, pickled = _file_names(folder)
        if pickled and not trust:
            raise CheckpointError(
                f"{folder / names[0]}: is pickled, and a pickle from elsewhere should not be read unasked; take the "
                "folder's safetensors, or give --trust if you trust its source as you trust a program"
            )
        for name in names:
            path = folder / name
            if not path.is_file():
                raise CheckpointError(f"{path}: is missing; the model consists of {len(names)} files, {_AGAIN}")
            file = _Pickle(path) if pickled else _Safetensors(path)
            for tensor, shape in file.shapes().items():
                if tensor in self._files:
                    raise CheckpointError(f"{path}: has {tensor}, which another file has too; {_AGAIN}")
                self.shapes[tensor], self._files[tensor] = shape, file

    def tensor(self, name: str) -> Tensor:
        """One tensor in the dtype of its file.

        Raises:
            CheckpointError: it has NaN or infinite numbers, or is of a dtype that models are not trained in.
        """
        import torch

        tensor = self._files[name].tensor(name)
        if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise CheckpointError(
                f"{self._files[name].path}: {name} is {str(tensor.dtype).removeprefix('torch.')}, expected float32, "
                "float16 or bfloat16; take the model that was not quantized"
            )
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{self._files[name].path}: {name} has NaN or infinite numbers; {_AGAIN}")
        return tensor


def _file_names(folder: Path) -> tuple[Sequence[str], bool]:
    """Names of the files with weights, and whether they are pickled."""
    for name in (SAFETENSORS, PICKLE):
        if (folder / name).is_file():
            return [name], name == PICKLE
        if (folder / f"{name}.index.json").is_file():
            return _listed(folder / f"{name}.index.json"), name == PICKLE
    raise CheckpointError(
        f"{folder}: has no weights ({SAFETENSORS}, {SAFETENSORS}.index.json or {PICKLE}); download the whole folder"
    )


def _listed(index: Path) -> Sequence[str]:
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not files:
        raise CheckpointError(f"{index}: expected weight_map with the file of every tensor; {_AGAIN}")
    if unlike := [name for name in files.values() if not isinstance(name, str)]:
        raise CheckpointError(f"{index}: weight_map: expected the name of a file, found {unlike[0]!r}; {_AGAIN}")
    names = list(dict.fromkeys(files.values()))
    if elsewhere := [name for name in names if not is_plain_name(name)]:
        raise CheckpointError(f"{index}: names a file outside of the folder ({elsewhere[0]!r}); do not use this folder")
    return names


class _Safetensors:
    """A file whose tensors are memory-mapped."""

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.path = path
        try:
            self._file = safe_open(path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: is cut or not a safetensors file ({error}); {_AGAIN}") from error

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(self._file.get_slice(name).get_shape()) for name in self._file.keys()}  # noqa: SIM118

    def tensor(self, name: str) -> Tensor:
        found: Tensor = self._file.get_tensor(name)
        return found


class _Pickle:
    """A pickled state dict; tensors alone are unpickled, and mapped where the file's layout allows it."""

    def __init__(self, path: Path) -> None:
        import torch

        self.path = path
        try:
            self._state: dict[str, Any] = _unpickled(path)
        except Exception as error:  # a damaged pickle can raise anything
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise CheckpointError(f"{path}: cannot be read ({reason}); {_AGAIN}") from error
        if not isinstance(self._state, dict) or not all(
            isinstance(value, torch.Tensor) for value in self._state.values()
        ):
            raise CheckpointError(f"{path}: is not a state dict of tensors; {_AGAIN}")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self._state.items()}

    def tensor(self, name: str) -> Tensor:
        found: Tensor = self._state[name]
        return found.detach()


def _unpickled(path: Path) -> Any:
    import zipfile

    import torch

    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
