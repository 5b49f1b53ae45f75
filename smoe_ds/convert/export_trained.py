"""Exports a trained model: its weights checked, pruned and cast, written with configuration and vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smoe_ds.checkpoints.weights_reader import misfit
from smoe_ds.decode.load import TrainedModel
from smoe_ds.decode.shape import model_shape
from smoe_ds.errors import CheckpointError
from smoe_ds.weights.export import cast, write_export
from smoe_ds.weights.merged import Group, merge_weights
from smoe_ds.weights.pruned import placements_of, prune_weights


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: where.
        step: training step of the weights.
        dtype: of the weights.
        parameters: numbers in the file.
        bytes: their size.
    """

    folder: Path
    step: int
    dtype: str
    parameters: int
    bytes: int


def export_trained(
    trained: TrainedModel,
    checkpoint: Path,
    folder: Path,
    dtype: str,
    *,
    removed: Mapping[str, Sequence[int]],
    pruning: Mapping[str, Any] | None,
    merged: Mapping[str, Sequence[Group]] | None = None,
) -> Exported:
    """Writes an exported model, all of it or nothing.

    Args:
        trained: the whole model on disk.
        checkpoint: the folder with the weights that are meant.
        folder: must not exist, or be empty.
        dtype: of the weights in the file.
        removed: logical numbers of experts to leave out, by block name.
        pruning: how these were chosen, as JSON.
        merged: groups that take the place of their first expert, by block name; the others are among the removed.

    Raises:
        CheckpointError: the weights are damaged, do not fit the model or the dtype, or the folder cannot be written.
    """
    weights = trained.weights(checkpoint)
    shape = model_shape(trained.config.smoe, trained.tokenizer.vocab_size)
    if problem := misfit(shape.shapes, {name: tuple(weight.shape) for name, weight in weights.items()}):
        raise CheckpointError(f"{checkpoint}: does not fit the model of {trained.files.config}: {problem}")
    if merged:
        weights = merge_weights(weights, placements_of(trained.config.smoe), merged)
    if removed:
        weights = prune_weights(weights, placements_of(trained.config.smoe), removed)
    weights = cast(weights, dtype, shape.buffers)
    write_export(
        folder,
        trained.config.to_dict(),
        trained.tokenizer.model_file,
        weights,
        step=trained.step(checkpoint),
        dtype=dtype,
        source=trained.source(checkpoint),
        removed_experts=removed,
        pruning=pruning,
    )
    sizes = [(weight.numel(), weight.nbytes) for weight in weights.values()]
    return Exported(folder, trained.step(checkpoint), dtype, *(sum(column) for column in zip(*sizes, strict=True)))
