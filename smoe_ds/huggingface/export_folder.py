"""Writes a model of ours as a folder of transformers, or as one of CTranslate2."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.checkpoints.commit import write_text_durably
from smoe_ds.checkpoints.format import read_state
from smoe_ds.checkpoints.weights_reader import misfit
from smoe_ds.decode.load import TrainedModel
from smoe_ds.decode.shape import model_shape
from smoe_ds.errors import CheckpointError, DataError
from smoe_ds.huggingface.exported_config import exported_config, generation_config, is_legacy
from smoe_ds.huggingface.exported_tokenizer import Exported, exported_tokenizer
from smoe_ds.huggingface.folder import CONFIG
from smoe_ds.huggingface.language_codes import kept_codes, language_tokens
from smoe_ds.huggingface.names import EMBEDDING, NAMES
from smoe_ds.huggingface.tensors import SAFETENSORS
from smoe_ds.huggingface.vocabulary import read_table
from smoe_ds.weights.export import cast
from smoe_ds.weights.weights_folder import as_text, new_folder

if TYPE_CHECKING:
    from torch import Tensor

GENERATION = "generation_config.json"


def export_to_transformers(
    trained: TrainedModel, checkpoint: Path, folder: Path, dtype: str, codes: Mapping[str, str]
) -> int:
    """Writes a folder that ``from_pretrained`` reads, all of it or nothing.

    Args:
        trained: the model on disk.
        checkpoint: the folder with the weights that are meant.
        folder: must not exist, or be empty.
        dtype: of the weights in the file.
        codes: their code of a language of ours; one that is not named has the token of its name.

    Returns:
        Parameters.

    Raises:
        ConfigError: no model of transformers computes the same; says why.
        CheckpointError: the weights are damaged or do not fit the dtype, or the folder cannot be written.
        DataError: two languages would get one token.
    """
    from safetensors.torch import save_file

    config = exported_config(trained.config.smoe, trained.tokenizer.vocab_size)
    tokenizer = exported_tokenizer(trained.tokenizer, codes)
    theirs = cast(their_weights(config["model_type"], checked_weights(trained, checkpoint), tokenizer), dtype, ())
    never = sorted({0, 1, 3, *tokenizer.languages.values()})
    with new_folder(folder) as place:
        write_text_durably(place / CONFIG, as_text(config | {"torch_dtype": dtype}))
        write_text_durably(place / GENERATION, as_text(generation_config(trained.config.smoe, never)))
        smoe = trained.config.smoe
        for name, content in tokenizer.files(smoe.model.max_positions, legacy=is_legacy(smoe.data)).items():
            if isinstance(content, bytes):
                (place / name).write_bytes(content)
            else:
                write_text_durably(place / name, as_text(content))
        save_file(theirs, place / SAFETENSORS, metadata={"format": "pt"})
        _sync_files(place)
    return sum(weight.numel() for weight in theirs.values())


def checked_weights(trained: TrainedModel, checkpoint: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint, fp32.

    Raises:
        CheckpointError: they are damaged or of another model.
    """
    weights = trained.weights(checkpoint)
    shape = model_shape(trained.config.smoe, trained.tokenizer.vocab_size)
    if problem := misfit(shape.shapes, {name: tuple(weight.shape) for name, weight in weights.items()}):
        raise CheckpointError(f"{checkpoint}: does not fit the model of {trained.files.config}: {problem}")
    return {name: weight.float() for name, weight in weights.items()}


def their_weights(kind: str, weights: Mapping[str, Tensor], tokenizer: Exported) -> dict[str, Tensor]:
    """Weights by their names, the embedding's rows in their order."""
    import torch

    result: dict[str, Tensor] = {}
    for name, weight in weights.items():
        whole = weight[torch.tensor(tokenizer.order)] if name == EMBEDDING else weight
        parts = NAMES[kind].of(name)
        result.update(zip(parts, (part.contiguous() for part in whole.chunk(len(parts))), strict=True))
    return result


def imported_codes(trained: TrainedModel, checkpoint: Path) -> dict[str, str]:
    """Their codes of the languages of an imported vocabulary, by our names; empty for others.

    The vocabulary itself keeps them, wherever it goes. An earlier version's import has them in its checkpoint alone.
    """
    from sentencepiece.sentencepiece_model_pb2 import ModelProto

    model = ModelProto()
    model.ParseFromString(trained.tokenizer.model_file.read_bytes())
    known = trained.tokenizer.language_ids
    return {name: code for name, code in (kept_codes(model) or _of_origin(checkpoint)).items() if name in known}


def _of_origin(checkpoint: Path) -> dict[str, str]:
    try:
        origin: dict[str, Any] = read_state(checkpoint).get("origin") or {}
    except CheckpointError:  # an exported model has no such file
        return {}
    return dict(origin.get("languages") or {})


def chosen_codes(trained: TrainedModel, checkpoint: Path, table: Path | None) -> dict[str, str]:
    """Their codes of our languages: those of a table, then those that were imported.

    Raises:
        DataError: the table cannot be read, or names a language or code that cannot be.
    """
    imported = imported_codes(trained, checkpoint)
    if table is None:
        return imported
    codes = imported | {ours: code for code, ours in read_table(table).items()}
    try:
        language_tokens(trained.tokenizer.languages, codes)
    except DataError as error:
        raise DataError(f"{table}: {error}") from error
    return codes


def _sync_files(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
