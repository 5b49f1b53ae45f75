"""From a run folder or an exported model to a translator: configuration, vocabulary, weights; no ranks, no engine."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smoe_ds.checkpoints.format import LATEST, read_manifest, read_weights, resolve_checkpoint, step_of
from smoe_ds.checkpoints.part_file import FileEntry
from smoe_ds.checkpoints.vocabulary import check_vocabulary
from smoe_ds.checkpoints.weights_reader import misfit
from smoe_ds.config.load import load_run
from smoe_ds.config.moe import MoeConfig
from smoe_ds.config.number_formats import INT8, torch_dtype
from smoe_ds.config.run import RunConfig
from smoe_ds.data.framing import Framing
from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.decode.languages import language_ids
from smoe_ds.decode.packed_linear import PACKED, packed_problem
from smoe_ds.decode.packed_model import pack_model
from smoe_ds.decode.translator import Translator
from smoe_ds.engine.state import persistent_buffers
from smoe_ds.errors import CheckpointError, ConfigError
from smoe_ds.model.transformer import Transformer
from smoe_ds.run.exported import as_export
from smoe_ds.run.folder import RunFolder
from smoe_ds.weights.export import read_export, read_export_weights
from smoe_ds.weights.pruned import placements_of, pruned_factory, renumbered


class TrainedModel(ABC):
    """A model on disk with its vocabulary and configuration: a run folder or an exported model.

    Args:
        path: what the user named.
        folder: where configuration and vocabulary lie.
        overrides: ``"smoe.decode.beam_size=1"`` and the like, applied to the run's configuration.
        dtype: ``float32``, ``bfloat16`` or ``float16``: what the model computes in; gate and scores stay float32.
            ``int8``: weights in 8 bits, see :mod:`smoe_ds.decode.packed_model`.
        device: where translators run; by default the GPU if there is one.
        packed: make translators that only decode and score, with float32 weights laid out for the processor where
            that is possible. Their models have no parameters for linear layers. In int8 they always are so.

    Raises:
        ConfigError: the configuration or an override is wrong, or int8 does not work here.
        DataError: the tokenizer is missing or damaged.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        overrides: Sequence[str],
        dtype: str,
        device: torch.device | str | None,
        packed: bool,
    ) -> None:
        self.given = path
        self.folder = folder
        self.files = RunFolder(folder)  # an export's configuration and vocabulary are called as a run's
        self.config: RunConfig = load_run(self.files.config, overrides)
        self.tokenizer = Tokenizer(self.files.tokenizer)
        self.dtype = dtype
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._packed = _packs(dtype, self.device, packed)

    @abstractmethod
    def checkpoint(self, which: str | int = "best") -> Path:
        """The folder with the weights that are meant: ``best``, ``last`` or a step.

        Raises:
            CheckpointError: there is none, the folder given is itself another step, or the weights are of another
                vocabulary than the one beside them.
        """

    @abstractmethod
    def step(self, checkpoint: Path) -> int:
        """Training step of the weights in a folder that `checkpoint` gave."""

    @abstractmethod
    def source(self, checkpoint: Path) -> dict[str, Any]:
        """Where the weights in a folder that `checkpoint` gave come from, as JSON."""

    @property
    def removed_experts(self) -> Mapping[str, Sequence[int]]:
        """Logical numbers of the experts that the model lacks, by block name."""
        return {}

    @property
    def targets(self) -> Sequence[str] | None:
        """Languages that the model can translate into; None: all of its vocabulary."""
        return None

    def check_languages(self, source: str | None, target: str) -> None:
        """Refuses languages that the model cannot translate from or into, before its weights are read.

        Raises:
            DataError: the vocabulary has no such language, the model was exported without its experts, or the source
                language is needed and None.
        """
        language_ids(self.tokenizer, Framing.of(self.config.smoe.data), self.targets, source, target)

    @abstractmethod
    def weights(self, checkpoint: Path) -> dict[str, Tensor]:
        """The weights in a folder that `checkpoint` gave, by the names that `untrained_model` has.

        Raises:
            CheckpointError: a file is missing or damaged.
        """

    def translator(self, checkpoint: Path) -> Translator:
        """A translator with a checkpoint's weights.

        Raises:
            CheckpointError: the checkpoint is damaged or belongs to another model.
        """
        model = self.untrained_model()
        load_weights(model, self.weights(checkpoint), checkpoint)
        return self._translator(model)

    def untrained_translator(self) -> Translator:
        """A translator with fresh weights by the run's seed."""
        return self._translator(self.untrained_model())

    def untrained_model(self) -> Transformer:
        """The model with fresh weights by the run's seed."""
        smoe = self.config.smoe
        return Transformer(smoe.model, self._moe, self.tokenizer.vocab_size, seed=smoe.train.seed)

    @property
    def _moe(self) -> MoeConfig:
        """The run's; packed experts are computed one after the other, whatever it says."""
        moe = self.config.smoe.moe
        return moe.model_copy(update={"expert_backend": "loop"}) if self._packed else moe

    @cached_property
    def num_parameters(self) -> int:
        """Parameters of the model, without the experts that it lacks; no memory is taken for them."""
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in self.untrained_model().parameters())

    def _translator(self, model: Transformer) -> Translator:
        smoe = self.config.smoe
        model = model.to(torch_dtype(self.dtype))
        if self._packed:
            pack_model(model, self.dtype)
        return Translator(model, self.tokenizer, smoe.data, smoe.decode, self.device, targets=self.targets)


class TrainedRun(TrainedModel):
    """A trained run on disk.

    Args:
        path: the run folder, or one of its checkpoints, ``RUN/checkpoints/step_N``.
        overrides: see :class:`TrainedModel`, as for the rest.
        dtype: what the model computes in.
        device: where translators run.
        packed: whether they only decode and score.

    Raises:
        CheckpointError: there is no such folder, or it is no run.
        ConfigError: the configuration or an override is wrong.
        DataError: the tokenizer is missing or damaged.
    """

    def __init__(
        self,
        path: Path,
        overrides: Sequence[str] = (),
        *,
        dtype: str = "float32",
        device: torch.device | str | None = None,
        packed: bool = False,
    ) -> None:
        super().__init__(Path(path), _run_folder_of(Path(path)), overrides, dtype, device, packed)

    def checkpoint(self, which: str | int = "best") -> Path:
        found = self._find(which)
        check_vocabulary(found, self.files.tokenizer, self.tokenizer.sha256)
        return found

    def _find(self, which: str | int) -> Path:
        if self.given != self.folder:
            if isinstance(which, int) and which != step_of(self.given):
                raise CheckpointError(f"{self.given}: is not step {which}; give the run folder {self.folder}")
            return self.given
        return resolve_checkpoint(self.folder, LATEST if which == "last" else which)

    def step(self, checkpoint: Path) -> int:
        return step_of(checkpoint)

    def source(self, checkpoint: Path) -> dict[str, Any]:
        return _source(checkpoint, read_manifest(checkpoint).parts("model"))

    def weights(self, checkpoint: Path) -> dict[str, Tensor]:
        return read_weights(checkpoint)


class ExportFolder(TrainedModel):
    """A model written by ``smoe-ds export``.

    Args:
        path: the exported folder, or a file in it.
        overrides: see :class:`TrainedModel`, as for the rest.
        dtype: what the model computes in, whatever the dtype of its file.
        device: where translators run.
        packed: whether they only decode and score.

    Raises:
        CheckpointError: it is no export, or its files are damaged.
        ConfigError: an override is wrong.
    """

    def __init__(
        self,
        path: Path,
        overrides: Sequence[str] = (),
        *,
        dtype: str = "float32",
        device: torch.device | str | None = None,
        packed: bool = False,
    ) -> None:
        folder = as_export(Path(path))
        if folder is None:
            raise CheckpointError(f"{path}: is not an exported model; write one with smoe-ds export")
        self.export = read_export(folder)
        super().__init__(Path(path), folder, overrides, dtype, device, packed)

    def checkpoint(self, which: str | int = "best") -> Path:
        if isinstance(which, int) and which != self.export.step:
            raise CheckpointError(
                f"{self.folder}: is step {self.export.step}, not {which}; export that step of the run"
            )
        return self.folder

    def step(self, checkpoint: Path) -> int:
        return self.export.step

    def source(self, checkpoint: Path) -> dict[str, Any]:
        return _source(checkpoint, self.export.files)

    @property
    def removed_experts(self) -> Mapping[str, Sequence[int]]:
        return {block: numbers for block, numbers in self.export.removed_experts.items() if numbers}

    @property
    def targets(self) -> Sequence[str] | None:
        return self.export.targets

    def weights(self, checkpoint: Path) -> dict[str, Tensor]:
        found = read_export_weights(self.export)
        if not self.removed_experts:
            return found
        return renumbered(found, placements_of(self.config.smoe), self.removed_experts)

    def untrained_model(self) -> Transformer:
        smoe, removed = self.config.smoe, self.removed_experts
        make = pruned_factory(smoe.model, smoe.train.seed, removed) if removed else None
        return Transformer(smoe.model, self._moe, self.tokenizer.vocab_size, seed=smoe.train.seed, make_moe=make)


def open_trained(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    dtype: str = "float32",
    device: torch.device | str | None = None,
    packed: bool = False,
) -> TrainedModel:
    """What a path names: a run folder, a checkpoint in it, or an exported model; for arguments and errors see there."""
    kind = TrainedRun if as_export(Path(path)) is None else ExportFolder
    return kind(path, overrides, dtype=dtype, device=device, packed=packed)


def load_translator(
    path: Path,
    which: str | int = "best",
    overrides: Sequence[str] = (),
    *,
    dtype: str = "float32",
    device: torch.device | str | None = None,
    packed: bool = False,
) -> Translator:
    """A translator from a run folder, a checkpoint in it or an exported model; for errors see :class:`TrainedModel`.

    Args:
        path: run folder, ``RUN/checkpoints/step_N``, or exported folder.
        which: ``best`` (by validation loss), ``last`` or a step.
        overrides: changes to the run's configuration.
        dtype: what the model computes in.
        device: where it runs; by default the GPU if there is one.
        packed: whether it only decodes and scores.
    """
    run = open_trained(path, overrides, dtype=dtype, device=device, packed=packed)
    return run.translator(run.checkpoint(which))


def _packs(dtype: str, device: torch.device, wanted: bool) -> bool:
    """Whether models are packed.

    Raises:
        ConfigError: the dtype is int8, and that does not work here.
    """
    if dtype == INT8 and device.type != "cpu":
        raise ConfigError(
            f"dtype int8 works on the processor only, not on {device.type}: add --device cpu, or choose bfloat16"
        )
    if dtype not in PACKED or device.type != "cpu" or not (wanted or dtype == INT8):
        return False
    problem = packed_problem(dtype)
    if problem and dtype == INT8:
        raise ConfigError(
            f"dtype int8 does not work with PyTorch {torch.__version__} on this machine: {problem}; use float32"
        )
    if problem:
        warnings.warn(
            f"PyTorch {torch.__version__} cannot pack weights on this machine ({problem}); decoding is slower",
            stacklevel=2,
        )
    return problem is None


def load_weights(model: Transformer, weights: Mapping[str, Tensor], source: Path) -> None:
    """Copies weights into a model that has exactly these parameters.

    Raises:
        CheckpointError: names or shapes differ; the message lists the first ones.
    """
    parameters = {**dict(model.named_parameters()), **persistent_buffers(model)}
    expected = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    if problem := misfit(expected, {name: tuple(weight.shape) for name, weight in weights.items()}):
        raise CheckpointError(
            f"{source}: does not fit the model of config.json: {problem}; "
            "config.json, tokenizer.model and the checkpoint must be of one run"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def _source(folder: Path, files: Sequence[FileEntry]) -> dict[str, Any]:
    return {"folder": str(folder.resolve()), "files": [entry.as_json() for entry in files]}


def _run_folder_of(path: Path) -> Path:
    """The run folder that is ``path`` or holds the checkpoint ``path``."""
    folder = RunFolder.containing(path)
    if folder is not None:
        return folder.path
    what = "no such folder" if not path.is_dir() else "no run folder: config.json is missing"
    raise CheckpointError(
        f"{path}: {what}; give the output_dir of a training run, RUN/checkpoints/step_N in it, or an exported model"
    )
