"""The names in the folder of an exported model; what it holds is written and read by `smoe_ds.weights.export`."""

from __future__ import annotations

from pathlib import Path

from smoe_ds.run_names import CONFIG, TOKENIZER

__all__ = ["CONFIG", "INDEX", "TOKENIZER", "WEIGHTS", "as_export"]  # two are called as in a run folder

INDEX, WEIGHTS = "export.json", "model.safetensors"


def as_export(path: Path) -> Path | None:
    """The folder of an exported model that ``path`` names, itself or by one of its files; None if it names none."""
    for folder in (path, path.parent):
        if (folder / INDEX).is_file() and (folder == path or path.is_file()):
            return folder
    return None
