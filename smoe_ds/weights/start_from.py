"""Starts a run with the weights of another: any topology, precision and ZeRO stage; optimizer and data begin afresh."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.checkpoints.format import resolve_checkpoint
from smoe_ds.checkpoints.vocabulary import check_vocabulary
from smoe_ds.checkpoints.weights_reader import WeightsReader, misfit
from smoe_ds.config.load import load_run
from smoe_ds.config.smoe import SmoeConfig
from smoe_ds.data.shards import sha256_of
from smoe_ds.engine.fragments import MASTER, fragments, publish_masters
from smoe_ds.engine.protocol import TrainingState
from smoe_ds.engine.state import held_nowhere, held_shapes, persistent_buffers
from smoe_ds.errors import CheckpointError
from smoe_ds.parallel.agreement import together
from smoe_ds.run.exported import TOKENIZER, as_export
from smoe_ds.run.folder import RunFolder
from smoe_ds.weights.export import read_export, read_export_weights
from smoe_ds.weights.same_model import differences, outside_of_blocks

if TYPE_CHECKING:
    from torch import Tensor

_KEY = "smoe.train.init_from"
OTHER_FUNCTION = f"set what the weights were trained with, or leave {_KEY} out"
"""What to do about `other_function`."""


class InitialWeights:
    """The weights of a run folder (its best checkpoint), of one of its checkpoints, or of an exported model.

    Attributes:
        shapes: shape of every parameter by logical name.
        tensor: gives the weight of a name.

    Raises:
        CheckpointError: there are none, they are damaged, or they belong to another vocabulary.
    """

    def __init__(self, path: Path, vocabulary: str) -> None:
        export = as_export(path)
        if export is None:
            checkpoint = resolve_checkpoint(path)
            tokenizer = RunFolder.of_checkpoint(checkpoint).tokenizer
        else:
            tokenizer = export / TOKENIZER
        if not tokenizer.is_file() or sha256_of(tokenizer) != vocabulary:
            raise CheckpointError(
                f"{tokenizer}: is not the vocabulary of this run's corpus, so the embeddings would be those of other "
                f"words; prepare the corpus with this vocabulary, or leave {_KEY} out"
            )
        if export is None:
            check_vocabulary(checkpoint, tokenizer, vocabulary)
        self.shapes: dict[str, tuple[int, ...]]
        self.tensor: Callable[[str], Tensor]
        if export is None:
            reader = WeightsReader(checkpoint)
            self.shapes, self.tensor = reader.shapes, reader.tensor
        else:
            content = read_export(export)
            if content.removed_experts:
                raise CheckpointError(f"{export}: lacks experts that were removed on export; start from a whole model")
            weights = read_export_weights(content)
            self.shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
            self.tensor = lambda name: weights[name].float()


def check_same_function(path: Path, smoe: SmoeConfig) -> None:
    """Refuses weights that would compute another function in this run though they fit it. Call it on every rank.

    Settings of MoE blocks and ``language_capacity`` may be others, since a model is often trained on with another gate,
    norm or capacity: see `changed_settings`.

    Args:
        path: run folder, checkpoint or exported model.
        smoe: the run that is to start.

    Raises:
        CheckpointError: on all ranks, if a setting of the model or of the framing of sentences differs, or the settings
            of the weights cannot be read by one.
    """
    with together(CheckpointError, f"starting with the weights of {path} ({_KEY})"):
        if problem := other_function(path, smoe):
            raise CheckpointError(f"{problem}; {OTHER_FUNCTION}")


def other_function(path: Path, smoe: SmoeConfig) -> str:
    """Why weights would compute another function in a run, or an empty string. No collective.

    Raises:
        CheckpointError: there are no weights.
        ConfigError: their settings cannot be read.
    """
    found = outside_of_blocks(_settings(path), smoe)
    return f"they were trained with other settings: {'; '.join(found)} in this run" if found else ""


def changed_settings(path: Path, smoe: SmoeConfig) -> list[str]:
    """Settings, with both values, by which a run differs from the weights that it starts with.

    Raises:
        CheckpointError: there are no weights.
        ConfigError: their settings cannot be read.
    """
    return differences(_settings(path), smoe)


def _settings(path: Path) -> SmoeConfig:
    export = as_export(path)
    folder = RunFolder.of_checkpoint(resolve_checkpoint(path)) if export is None else RunFolder(export)
    return load_run(folder.config).smoe


def load_initial_weights(engine: TrainingState, path: Path, vocabulary: str) -> None:
    """Copies weights into an engine that has taken no step yet. Call it on every rank.

    Args:
        engine: the DeepSpeed engine.
        path: run folder, checkpoint or exported model.
        vocabulary: SHA-256 of the tokenizer's file.

    Raises:
        CheckpointError: on all ranks, if the weights cannot be read by one or do not fit the model.
    """
    what = f"starting with the weights of {path} ({_KEY})"
    shapes = held_shapes(engine.module)
    with together(CheckpointError, what):
        source = InitialWeights(path, vocabulary)
        if problem := misfit(shapes, source.shapes, part=True):
            raise CheckpointError(problem)
    if nowhere := held_nowhere(source.shapes, shapes):
        raise CheckpointError(f"{what}: {len(nowhere)} parameters are not in this model, the first is {nowhere[0]}")
    for name, fragment in fragments(engine).items():
        if fragment.numel:
            whole = source.tensor(name).reshape(-1)
            fragment.view(engine.basic_optimizer, MASTER).copy_(whole.narrow(0, fragment.start, fragment.numel))
    publish_masters(engine)
    for name, buffer in persistent_buffers(engine.module).items():
        buffer.copy_(source.tensor(name))
