"""Whether the target of a job fits its kind: a run file to train, a run to evaluate, a specification to prepare,
a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smoe_ds.errors import ConfigError, DataError, LaunchError

_OF_A_RUN = {"smoe", "extends", "train_batch_size"}
_OF_A_SPECIFICATION = {"pairs", "pair_list"}
_OF_A_STUDY = {"systems", "seeds", "base"}


def check_kind(target: Path, kind: str) -> None:
    """Refuses a target that is plainly meant for a job of another kind; the job itself refuses all else.

    Args:
        target: a run file, a run folder, a specification or the name of a known corpus.
        kind: ``train``, ``evaluate``, ``prepare`` or ``study``.

    Raises:
        LaunchError: what the target is, and what to write instead.
    """
    found, right = _what_it_is(target)
    if right and right != kind:
        option = "leave out --kind" if right == "train" else f"write --kind {right}"
        purpose = "run" if right == "study" else right
        raise LaunchError(f"{target}: is {found}, which --kind {kind} cannot use; to {purpose} it, {option}")


def _what_it_is(target: Path) -> tuple[str, str]:
    """What is there, and the kind of job that uses it; empty where neither is plain."""
    from data_prep.spec.load_spec import find_spec

    if target.is_dir():
        return "a folder", "evaluate"
    if _run_keys(target) & _OF_A_RUN:
        return "a run file", "train"
    file, _ = find_spec(target)
    if file != target:
        return "the name of a known corpus", "prepare"
    if len(_keys(file) & _OF_A_STUDY) > 1:
        return "a study", "study"
    return ("a specification of a corpus", "prepare") if _keys(file) & _OF_A_SPECIFICATION else ("", "")


def _run_keys(file: Path) -> set[Any]:
    """The keys of a run file; none where it cannot be read as one."""
    from smoe_ds.config.files import read_file

    try:
        return set(read_file(str(file)))
    except ConfigError:
        return set()


def _keys(file: Path) -> set[Any]:
    """The keys of a specification; none where it cannot be read as one."""
    from data_prep.spec.load_spec import read_spec

    try:
        return set(read_spec(file))
    except (ConfigError, DataError):
        return set()
