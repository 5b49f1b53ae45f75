"""Takes a folder of transformers over as a run folder of weights."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.checkpoints.weights_reader import misfit
from smoe_ds.config.files import Layers
from smoe_ds.config.load import load_changed_run
from smoe_ds.config.run import RunConfig
from smoe_ds.decode.shape import model_shape
from smoe_ds.errors import CheckpointError
from smoe_ds.huggingface.folder import CONFIG, read_config
from smoe_ds.huggingface.names import EMBEDDING, NAMES, SHARED, TIED, is_parameter
from smoe_ds.huggingface.new_pieces import NewPieces
from smoe_ds.huggingface.settings import Settings, framing_of, settings_of
from smoe_ds.huggingface.sizes import check_sizes
from smoe_ds.huggingface.tensors import FolderTensors
from smoe_ds.huggingface.tokenizer_model import Added, Imported, imported_tokenizer
from smoe_ds.huggingface.vocabulary import language_names, read_table, read_vocabulary
from smoe_ds.run_names import TOKENIZER
from smoe_ds.weights.weights_folder import write_weights_run

if TYPE_CHECKING:
    from torch import Tensor

_ROWS_AT_A_TIME = 4096
WITHOUT_RUN_FILE: dict[str, Any] = {
    "train_batch_size": 32,
    "optimizer": {"type": "Adam", "params": {"lr": 1e-4}},
    "smoe": {"data": {"path": "data/mine"}, "train": {"output_dir": "runs/mine"}},
}
"""The settings beside the model's where no run file is named: enough to translate with it."""


@dataclass(frozen=True)
class Request:
    """What to take over, and how.

    Attributes:
        folder: of transformers.
        output: the new run folder.
        run_file: gives the settings beside the model's; None: `WITHOUT_RUN_FILE`.
        overrides: ``key=value`` each, of the run.
        trust: whether pickled weights may be read.
        sentencepiece_file: in place of the folder's.
        table: file with our names of languages.
        added: new languages and pieces, and what they start as.
    """

    folder: Path
    output: Path
    run_file: str | None = None
    overrides: Sequence[str] = ()
    trust: bool = False
    sentencepiece_file: Path | None = None
    table: Path | None = None
    added: Added = field(default_factory=Added)


@dataclass(frozen=True)
class Taken:
    """What was taken over.

    Attributes:
        kind: their ``model_type``.
        parameters: numbers of the model.
        languages: of its vocabulary.
        notes: what was not taken over.
    """

    kind: str
    parameters: int
    languages: int
    notes: tuple[str, ...]


def import_folder(request: Request) -> Taken:
    """Writes the run folder, all of it or nothing; one tensor is in memory at a time.

    Raises:
        CheckpointError: the folder is not complete, damaged, or of a model that cannot be taken over; or the output
            cannot be written.
        ConfigError: the run file or an override is wrong.
        DataError: the vocabulary or the table of languages is wrong.
    """
    folder = request.folder
    config = read_config(folder)
    settings = settings_of(config, folder)
    tensors = FolderTensors(folder, trust=request.trust)
    check_sizes(config, tensors.shapes, folder)
    vocabulary = read_vocabulary(folder, request.sentencepiece_file)
    table = read_table(request.table) if request.table else {}
    names = language_names(vocabulary.languages, table, str(request.table or folder))
    tokenizer = imported_tokenizer(vocabulary, settings.vocab_size, names, request.added)
    run = imported_run(settings, framing_of(folder), request.run_file, request.overrides)
    shapes = model_shape(run.smoe, len(tokenizer.rows)).shapes
    tensor = weights_of(config["model_type"], tensors, settings, tokenizer, shapes)
    with tempfile.TemporaryDirectory() as place:
        model_file = Path(place) / TOKENIZER
        model_file.write_bytes(tokenizer.model)
        origin = {
            "made_by": "smoe-ds import",
            "source": str(folder.resolve()),
            "model_type": config["model_type"],
            "languages": {ours: code for code, ours in names.items()},
            "not_taken_over": list(settings.notes),
        }
        write_weights_run(request.output, run.to_dict(), model_file, 0, shapes, tensor, origin)
    notes = settings.notes
    if tokenizer.unseen:
        notes += (f"{tokenizer.unseen} pieces of the SentencePiece model have no row; they start as the unknown token",)
    if tokenizer.new is not None:
        notes += tuple(_notes_of_new(tokenizer.new))
    total = sum(math.prod(shape) for shape in shapes.values())
    return Taken(config["model_type"], total, len(names) + len(request.added.languages), notes)


def _notes_of_new(new: NewPieces) -> Iterator[str]:
    yield f"the vocabulary has {len(new.scores):,} new pieces, {new.on_the_way:,} of them on the way to those asked for"
    if new.there_already:
        yield f"{new.there_already:,} of the pieces asked for were there already"
    if new.never_met:
        yield (
            f"{len(new.never_met):,} of the pieces asked for are left out, such as {new.never_met[0]!r}: the "
            "vocabulary's normalisation changes them, so that no text has them"
        )


def imported_run(
    settings: Settings, framing: Mapping[str, bool | str], run_file: str | None, overrides: Sequence[str]
) -> RunConfig:
    """The run: model, experts and framing are theirs, the rest is that of a run file."""

    def change(layers: Layers) -> None:
        if run_file is None:
            layers.put(WITHOUT_RUN_FILE, "smoe-ds import")
        smoe = layers.tree.get("smoe")
        for section in ("model", "moe"):
            if isinstance(smoe, dict):
                smoe.pop(section, None)
        layers.put({"smoe": {"model": settings.model, "moe": settings.moe, "data": dict(framing)}}, CONFIG)

    return load_changed_run(run_file, overrides, change, "smoe-ds import")


def weights_of(
    kind: str,
    tensors: FolderTensors,
    settings: Settings,
    tokenizer: Imported,
    shapes: Mapping[str, tuple[int, ...]],
) -> Callable[[str], Tensor]:
    """Gives each parameter of ours, fp32, after a look at the names and shapes of all.

    Raises:
        CheckpointError: tensors are missing, left over, or of another shape than the configuration says.
    """
    sources = {name: NAMES[kind].of(name) for name in shapes}
    shared = next((name for name in (SHARED, *TIED) if name in tensors.shapes), SHARED)
    sources[EMBEDDING] = (shared,)
    expected = {theirs: _part(shapes[name], len(parts)) for name, parts in sources.items() for theirs in parts} | {
        shared: (settings.vocab_size, settings.model["d_model"])
    }
    found = {name: shape for name, shape in tensors.shapes.items() if name in expected or is_parameter(name)}
    if problem := misfit(expected, found):
        raise CheckpointError(
            f"{tensors.folder}: its weights do not fit its {CONFIG}: {problem}; download the whole folder again"
        )

    def tensor(name: str) -> Tensor:
        import torch

        if name == EMBEDDING:
            return _embedding(tensors.tensor(shared), tokenizer)
        return torch.cat([tensors.tensor(part).to(torch.float32) for part in sources[name]])

    return tensor


def _embedding(weight: Tensor, tokenizer: Imported) -> Tensor:
    """The rows in our order, fp32."""
    import torch

    result = weight[torch.tensor([rows[0] for rows in tokenizer.rows])].to(torch.float32)
    means: dict[tuple[int, ...], Tensor] = {}
    for number, rows in enumerate(tokenizer.rows):
        if len(rows) > 1:
            if rows not in means:
                means = {rows: _mean(weight, rows)}  # neighbours share the mean of all
            result[number] = means[rows]
    return result


def _mean(weight: Tensor, rows: Sequence[int]) -> Tensor:
    """The mean of some rows, of which few are in memory in fp32 at a time."""
    import torch

    chunks = (weight[list(rows[start : start + _ROWS_AT_A_TIME])] for start in range(0, len(rows), _ROWS_AT_A_TIME))
    return torch.stack([chunk.to(torch.float32).sum(dim=0) for chunk in chunks]).sum(dim=0) / len(rows)


def _part(shape: tuple[int, ...], parts: int) -> tuple[int, ...]:
    return (shape[0] // parts, *shape[1:])
