"""Which checkpoints of a run can go, and how they go without leaving a pointer to nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from smoe_ds.checkpoints import format as fmt
from smoe_ds.checkpoints.commit import discard_folder, write_text_durably
from smoe_ds.checkpoints.inspection import problems
from smoe_ds.errors import CheckpointError


@dataclass(frozen=True)
class Retention:
    """What is kept and what goes.

    Attributes:
        root: the folder of checkpoints.
        kept: folders that stay, newest first.
        doomed: folders that can go, newest first.
        damage: what is wrong with checkpoints that were looked at and could not be kept, a file each.
    """

    root: Path
    kept: tuple[Path, ...]
    doomed: tuple[Path, ...]
    damage: tuple[str, ...]

    @property
    def folders(self) -> list[Path]:
        """All of them, newest first."""
        return sorted([*self.kept, *self.doomed], key=fmt.step_of, reverse=True)


def plan_retention(folders: Collection[Path], keep_last: int, *, keep_best: bool) -> Retention:
    """Which checkpoints are not needed; the newest ones are read until as many as wanted are found whole.

    Args:
        folders: all of a run, newest first; at least one.
        keep_last: how many of the newest whole ones are kept.
        keep_best: whether the one of lowest validation loss is kept besides, if it is whole.

    Raises:
        CheckpointError: none of them is whole; all are kept then.
    """
    root = next(iter(folders)).parent
    best = fmt.read_pointer(root, fmt.BEST) if keep_best else None
    kept: list[Path] = []
    damage: list[str] = []
    for folder in folders:
        if len(kept) < keep_last or folder.name == best:
            wrong = problems(folder)
            damage += wrong
            kept += [] if wrong else [folder]
    if not kept:
        found = "\n".join(f"damaged: {text}" for text in damage)
        raise CheckpointError(f"{found}\n{root}: none of the checkpoints is whole; nothing is removed")
    return Retention(root, tuple(kept), tuple(folder for folder in folders if folder not in kept), tuple(damage))


def remove(retention: Retention) -> None:
    """Removes what is not needed; before, ``latest`` names the newest that stays, and ``best`` nothing that goes."""
    root, gone = retention.root, {folder.name for folder in retention.doomed}
    if fmt.read_pointer(root, fmt.LATEST) in gone:
        write_text_durably(root / fmt.LATEST, f"{retention.kept[0].name}\n")
    if fmt.read_pointer(root, fmt.BEST) in gone:
        (root / fmt.BEST).unlink()
    for folder in retention.doomed:
        discard_folder(folder)
