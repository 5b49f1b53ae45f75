"""Checks the files of a specification before any of them is read."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from data_prep.spec.sections import Spec
from data_prep.vocabulary.train import given_vocabulary
from smoe_ds.errors import DataError

_SHOWN = 10


def check_files(spec: Spec, base: Path) -> None:
    """Checks that every file of the specification is there and can be read, and that a given vocabulary suits.

    Args:
        spec: the specification.
        base: folder that relative paths are relative to.

    Raises:
        DataError: a line for each kind of problem with the files, all or the first ten; or the vocabulary is none, or
            lacks a language.
    """
    files = [(p.pair, base / name) for p in spec.pairs for source in p.sources for name in source.files()]
    if spec.sentencepiece.model is not None:
        files.append(("sentencepiece.model", base / spec.sentencepiece.model))
    problems: dict[tuple[str, str], list[str]] = defaultdict(list)
    for user, path in files:
        if (problem := _problem(path, base)) is not None:
            problems[problem].append(f"{path} ({user})")
    if problems:
        raise DataError("\n".join(f"{what}: {_shown(names)}; {remedy}" for (what, remedy), names in problems.items()))
    given_vocabulary(spec, base)


def _problem(path: Path, base: Path) -> tuple[str, str] | None:
    """What is wrong with a file, and what to do about it."""
    try:
        if path.is_dir():
            return "a folder, not a file", "name the file in it"
        if path.exists() and not path.is_file():
            return "not a file but a pipe or a device", "text is read more than once: write it to a file"
        path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError):
        return "no such file", f"relative paths start from {base}"
    except OSError as error:
        return f"cannot be read ({error.strerror})", "fix the permissions of the file or of a folder it is in"
    return None


def _shown(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
