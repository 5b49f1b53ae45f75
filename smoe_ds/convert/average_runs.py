"""Averages checkpoints of one or several runs of the same model into a run folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from smoe_ds.checkpoints.vocabulary import check_vocabulary
from smoe_ds.checkpoints.weights_reader import misfit
from smoe_ds.decode.load import TrainedRun
from smoe_ds.decode.shape import model_shape
from smoe_ds.errors import CheckpointError
from smoe_ds.weights.average import Candidate, Mean
from smoe_ds.weights.same_model import differences
from smoe_ds.weights.weights_folder import write_weights_run


def average_runs(runs: Sequence[TrainedRun], chosen: Sequence[Candidate], output: Path) -> Path:
    """Writes the mean of checkpoints; its step is the last of theirs.

    Args:
        runs: the runs they are from; the first gives configuration and vocabulary.
        chosen: the checkpoints.
        output: the new run folder; must not exist, or be empty.

    Returns:
        The checkpoint folder.

    Raises:
        CheckpointError: the runs are of different models, a checkpoint is damaged or does not fit, or the folder cannot
            be written.
    """
    _check_same_model(runs)
    first = runs[0]
    for candidate in chosen:
        check_vocabulary(candidate.folder, first.tokenizer.model_file, first.tokenizer.sha256)
    shape = model_shape(first.config.smoe, first.tokenizer.vocab_size)
    mean = Mean([candidate.folder for candidate in chosen], shape.buffers)
    if problem := misfit(shape.shapes, mean.shapes):
        raise CheckpointError(f"{chosen[0].folder}: does not fit the model of {first.files.config}: {problem}")
    return write_weights_run(
        output,
        first.config.to_dict(),
        first.tokenizer.model_file,
        max(candidate.step for candidate in chosen),
        mean.shapes,
        mean.tensor,
        {"made_by": "smoe-ds average", "sources": [candidate.as_json() for candidate in chosen]},
    )


def _check_same_model(runs: Sequence[TrainedRun]) -> None:
    first = runs[0]
    for other in runs[1:]:
        problems = differences(first.config.smoe, other.config.smoe)
        if first.tokenizer.sha256 != other.tokenizer.sha256:
            problems.append("their vocabularies (tokenizer.model) differ")
        if problems:
            raise CheckpointError(
                f"{first.given} and {other.given}: are different models: {'; '.join(problems)}; "
                "average checkpoints of one model"
            )
