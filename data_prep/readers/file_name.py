"""File and folder names in a specification, read as a shell reads them."""

from __future__ import annotations

import os.path
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator


def _as_in_a_shell(name: str) -> str:
    if "\0" in name:
        raise ValueError("a NUL byte is in no file's name; remove it")
    name = os.path.expandvars(name)
    if not name.startswith("~"):
        return name
    try:
        return str(Path(name).expanduser())
    except RuntimeError as error:
        raise ValueError(f"{name!r}: {error}; write the folder out, or ./{name} for a file of this name") from error


FileName = Annotated[str, AfterValidator(_as_in_a_shell)]
"""A path with ``~``, ``~USER``, ``$NAME`` and ``${NAME}`` replaced, variables that are not set left as they are."""
