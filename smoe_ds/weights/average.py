"""The mean of checkpoints: which ones, whether they are of one model, and the sums in float64."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.checkpoints import format as fmt
from smoe_ds.checkpoints.weights_reader import WeightsReader, misfit
from smoe_ds.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that may be chosen.

    Attributes:
        folder: its folder.
        nll: mean validation loss of its weights [nat]; None where none was taken at its step.
    """

    folder: Path
    nll: float | None

    @property
    def step(self) -> int:
        return fmt.step_of(self.folder)

    def as_json(self) -> dict[str, Any]:
        """As an average names what it was made of."""
        return {"checkpoint": str(self.folder.resolve()), "step": self.step, "validation_nll": self.nll}


def candidates(root: Path) -> list[Candidate]:
    """The checkpoints of a run, newest first.

    Args:
        root: the folder of checkpoints.

    Raises:
        CheckpointError: there is none, or the state of one is damaged.
    """
    folders = fmt.step_folders(root)
    if not folders:
        raise CheckpointError(f"{root}: has no checkpoint; expected folders named like {fmt.folder_name(100)}")
    return [Candidate(folder, validation_nll(folder)) for folder in folders]


def validation_nll(folder: Path) -> float | None:
    """The validation loss that the trainer took at the very step of a checkpoint, or None."""
    for entry in fmt.read_manifest(folder).files:
        if entry.name == fmt.STATE:
            fmt.verify_file(folder, entry)
            progress = fmt.read_state(folder).get("extra", {}).get("progress", {})
            taken_here = progress.get("last_validation") == fmt.step_of(folder)
            return progress.get("validation_nll") if taken_here else None
    return None


def newest(found: Sequence[Candidate], number: int) -> list[Candidate]:
    """The newest ``number``, newest first.

    Raises:
        CheckpointError: there are fewer.
    """
    if len(found) < number:
        raise CheckpointError(
            f"{_where(found)}: {len(found)} checkpoints are kept, {number} are asked for (steps {_steps(found)}); "
            "ask for fewer, or train with a larger smoe.train.keep_last"
        )
    return list(found[:number])


def best(found: Sequence[Candidate], number: int) -> list[Candidate]:
    """The ``number`` of lowest validation loss, best first; of equal ones the newer.

    Raises:
        CheckpointError: fewer have a validation loss.
    """
    scored = [candidate for candidate in found if candidate.nll is not None]
    if len(scored) < number:
        raise CheckpointError(
            f"{_where(found)}: {number} checkpoints with a validation loss are asked for, {len(scored)} of the "
            f"{len(found)} have one (steps {_steps(scored) or 'none'}); use --last or --steps, or train with "
            "smoe.train.checkpoint_every equal to validate_every and a larger keep_last"
        )
    return sorted(scored, key=lambda candidate: (candidate.nll, -candidate.step))[:number]


def of_steps(found: Sequence[Candidate], steps: Collection[int]) -> list[Candidate]:
    """Those of given steps, newest first.

    Raises:
        CheckpointError: there is no checkpoint of a step.
    """
    missing = sorted(set(steps) - {candidate.step for candidate in found})
    if missing:
        raise CheckpointError(
            f"{_where(found)}: no checkpoint of step {', '.join(map(str, missing))}; there are the steps "
            f"{_steps(found)}"
        )
    return [candidate for candidate in found if candidate.step in steps]


class Mean:
    """The mean of several checkpoints' weights, computed tensor by tensor in float64, rounded once.

    Args:
        folders: checkpoint folders, at least two, no two the same.
        whole_numbers: names of state that counts in whole numbers; its mean is rounded to the nearest one.

    Attributes:
        shapes: shape of every parameter.

    Raises:
        CheckpointError: one is damaged, or they are not of one model.
    """

    def __init__(self, folders: Sequence[Path], whole_numbers: Collection[str] = ()) -> None:
        if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
            raise CheckpointError(
                f"nothing to average: expected two or more different checkpoints, found "
                f"{', '.join(map(str, folders)) or 'none'}"
            )
        self.readers = [WeightsReader(folder) for folder in folders]
        self.shapes = self.readers[0].shapes
        self._whole_numbers = whole_numbers
        for reader in self.readers[1:]:
            if problem := misfit(self.shapes, reader.shapes):
                raise CheckpointError(f"{reader.folder}: is of another model than {folders[0]}: {problem}")

    def tensor(self, name: str) -> Tensor:
        """The mean of one parameter, fp32."""
        import torch

        total = torch.zeros(self.shapes[name], dtype=torch.float64)
        for reader in self.readers:
            total += reader.tensor(name)
        mean = total / len(self.readers)
        return (mean.round() if name in self._whole_numbers else mean).to(torch.float32)


def _where(found: Sequence[Candidate]) -> Path:
    return found[0].folder.parent


def _steps(found: Sequence[Candidate]) -> str:
    return ", ".join(str(candidate.step) for candidate in reversed(found))
