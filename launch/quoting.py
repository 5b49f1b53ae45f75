"""Text that three readers take literally: bash, sbatch (its ``#SBATCH`` lines) and srun (its file name patterns)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping

from smoe_ds.errors import LaunchError
from smoe_ds.text_line import hidden_in

_PLACEHOLDER = re.compile(r"@([A-Z_]+)@")


def check_printable(what: str, text: str) -> str:
    """Refuses what no script can carry on one line, and what would make it look like another.

    Raises:
        LaunchError: it has a line break or another control character, a mark of writing direction or the like, or bytes
            that are not UTF-8.
    """
    wrong = hidden_in(text)
    if wrong is not None:
        raise LaunchError(
            f"{what}: {text!r} has the control character {wrong!r}, which a script cannot contain; remove it"
        )
    return text


def check_log_path(what: str, path: str) -> str:
    """Refuses a path under which SLURM cannot write logs: a backslash switches its patterns off.

    Raises:
        LaunchError: it has a backslash or a control character.
    """
    if "\\" in path:
        raise LaunchError(f"{what}: {path} has a backslash, with which SLURM fills in no %j; choose another folder")
    return check_printable(what, path)


def sbatch_value(text: str) -> str:
    """A value for a ``#SBATCH`` line, in double quotes where it needs them."""
    if re.fullmatch(r"[\w.,:@%+=/-]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def file_pattern(path: str) -> str:
    """A path as a SLURM file name pattern that means itself."""
    return path.replace("%", "%%")


def array_lines(words: Iterable[str], indent: str = "  ") -> str:
    """Words of a bash array: a line for what comes before the first option, and one for each option with its value."""
    lines: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--"):
            lines.append([])
        lines[-1].append(shlex.quote(word))
    return "\n".join(indent + " ".join(line) for line in lines)


def fill(template: str, values: Mapping[str, str]) -> str:
    """Replaces every ``@NAME@``; values are not looked into.

    Raises:
        KeyError: a placeholder has no value: the template and its caller do not fit.
    """
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)
