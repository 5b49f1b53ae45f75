"""A run that was evaluated before: its scores and translations, by the file that they are in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smoe_ds.decode.lines import read_lines
from smoe_ds.errors import DataError
from smoe_ds.evaluate.direction_scores import DirectionScores
from smoe_ds.evaluate.held_out import HeldOut
from smoe_ds.evaluate.scores import Evaluation
from smoe_ds.run.folder import RunFolder


@dataclass(frozen=True)
class EvaluatedRun:
    """What ``smoe-ds evaluate`` wrote.

    Attributes:
        name: what the user calls it.
        file: the scores.
        evaluation: what they are.
    """

    name: str
    file: Path
    evaluation: Evaluation

    @property
    def by_direction(self) -> dict[str, DirectionScores]:
        """The scores by direction."""
        return {one.direction: one for one in self.evaluation.directions}

    def check_translated(self, texts: Sequence[HeldOut]) -> None:
        """Refuses text that the run has not translated.

        Raises:
            DataError: names the first direction.
        """
        scored = self.by_direction
        for text in texts:
            one = scored.get(text.direction)
            if one is None:
                raise DataError(f"{self.file}: has no scores of {text.direction}; evaluate that run on it first")
            if one.text != text.digest:
                raise DataError(
                    f"{self.file}: {text.direction} is of another text ({self.evaluation.split}, {one.sentences} "
                    f"sentences, not these {len(text.sources)}); evaluate that run on the same text first"
                )

    def check_kept(self, output: Path, translations: Path) -> None:
        """Refuses to be tested against by an evaluation that replaces it.

        Args:
            output: the file for the scores of that evaluation.
            translations: the folder for its translations.

        Raises:
            DataError: scores or translations would be written in the place of these.
        """
        folders = {(self.file.parent / one.translations).parent.resolve() for one in self.evaluation.directions}
        if output.resolve() == self.file.resolve() or translations.resolve() in folders:
            raise DataError(
                f"--against {self.name}: this evaluation would replace the scores and translations that it is tested "
                "against; write it to another file with --output"
            )

    def translations(self, direction: str) -> list[str]:
        """The translations of a direction.

        Raises:
            DataError: their file is missing, or holds other translations than those that were scored.
        """
        scores = self.by_direction[direction]
        file = self.file.parent / scores.translations
        if not file.is_file():
            raise DataError(f"{file}: missing; evaluate {self.name} again")
        lines = list(read_lines(file, None))
        if len(lines) != scores.sentences:
            raise DataError(f"{file}: has {len(lines)} lines, expected {scores.sentences}; evaluate {self.name} again")
        if not scores.translations_sha256:
            raise DataError(f"{self.file}: does not say which translations were scored; evaluate {self.name} again")
        found = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
        if found != scores.translations_sha256:
            raise DataError(
                f"{file}: holds other translations than those scored in {self.file}, perhaps of an evaluation that was "
                f"killed; evaluate {self.name} again"
            )
        return lines


def read_evaluated(path: Path, name: str | None = None) -> EvaluatedRun:
    """The evaluation of a run.

    Args:
        path: the run folder, or the file with its scores.
        name: what the user calls it; default the path.

    Raises:
        DataError: it was not evaluated, or the file does not hold scores.
    """
    file = path if path.is_file() else RunFolder(path).scores
    if not path.exists():
        raise DataError(f"{path}: no such run; name a run folder that was evaluated, or a file with scores")
    if not file.is_file():
        raise DataError(f"{file}: missing; run smoe-ds evaluate {path} first")
    try:
        evaluation = Evaluation.from_json(json.loads(file.read_bytes()))
        if not evaluation.directions:
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError):
        raise DataError(
            f"{file}: does not hold the scores of an evaluation; name a run, or evaluate it again"
        ) from None
    return EvaluatedRun(str(path) if name is None else name, file, evaluation)
