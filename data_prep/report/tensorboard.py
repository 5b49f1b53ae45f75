"""The report as TensorBoard event files: tables and examples as text, counts and vocabulary figures as curves.

A curve has one point a pair or a language: step N is the Nth row of the table of the same name.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.cleaning.clean import DROP_REASONS
from data_prep.report.text import report_rows, vocabulary_rows
from smoe_ds.errors import DataError
from smoe_ds.text_line import spelled_out

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_FIGURES = ("characters_per_token", "tokens_per_sentence", "character_coverage", "token_coverage", "vocabulary_used")


def check_writable(folder: Path) -> None:
    """Makes sure, before anything is prepared, that event files can be written.

    Args:
        folder: where to write; made if missing.

    Raises:
        DataError: they cannot.
    """
    problem = None
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not there.is_dir():
            problem = f"{there} is not a folder" if there != folder else "is not a folder"
        elif not os.access(there, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            problem = f"nothing can be written in {there}"
    except OSError as error:
        problem = str(error.strerror)
    if problem is not None:
        raise DataError(f"--tensorboard {folder!s:.200}: {problem}; choose another folder for the event files")


def write_tensorboard(folder: Path, manifest: Mapping[str, Any], report: Mapping[str, Any]) -> None:
    """Writes event files.

    Args:
        folder: where to write; made if missing.
        manifest: the corpus's.
        report: content of its report file.

    Raises:
        DataError: the files cannot be written.
    """
    with tempfile.TemporaryDirectory() as draft:  # TensorBoard's writer may keep to itself that the disk is full
        _write(Path(draft), manifest, report)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for file in Path(draft).iterdir():
                shutil.copyfile(file, folder / file.name)
        except OSError as error:
            problem = f"{error.strerror}; the corpus is there, but not these event files"
            raise DataError(f"--tensorboard {folder}: {problem}") from error


def _write(folder: Path, manifest: Mapping[str, Any], report: Mapping[str, Any]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        writer.add_text("data/pairs", _markdown(report_rows(manifest)))
        writer.add_text("data/vocabulary", _markdown(vocabulary_rows(manifest["vocabulary"])))
        if manifest["warnings"]:
            writer.add_text("data/warnings", "\n".join(f"- {_plain(text)}" for text in manifest["warnings"]))
        _add_counts(writer, report)
        for step, figures in enumerate(report["vocabulary"]["languages"].values()):
            for name in _FIGURES:
                if figures[name] is not None:
                    writer.add_scalar(f"data_vocabulary/{name}", figures[name], step)


def _add_counts(writer: SummaryWriter, report: Mapping[str, Any]) -> None:
    """Counts and examples of every pair and split; rows as in the table."""
    texts = [(pair, split, counts) for pair, splits in report["pairs"].items() for split, counts in splits.items()]
    occurring = [reason for reason in DROP_REASONS if any(reason in counts["dropped"] for *_, counts in texts)]
    for step, (pair, split, counts) in enumerate(texts):
        writer.add_scalar("data/read", counts.get("read", counts.get("drawn", 0)), step)
        writer.add_scalar("data/kept", counts["kept"], step)
        for reason in occurring:
            writer.add_scalar(f"data_dropped/{reason}", counts["dropped"].get(reason, 0), step)
        for reason, found in counts["examples"].items():
            table = [list(pair.split("-")), *found]
            writer.add_text(f"data_examples/{pair}/{split}/{reason}", _markdown(table))


def _markdown(table: Sequence[Sequence[str]]) -> str:
    """A table with a header, in Markdown."""
    header, *rows = ([_plain(cell) for cell in row] for row in table)
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def _plain(text: str) -> str:
    """Text that Markdown and HTML leave as it is, on one line."""
    return spelled_out(text).translate(_ESCAPED)


_ESCAPED = {ord(character): f"&#{ord(character)};" for character in "\\`*_{}[]<>|#&~"}
