"""From a run folder to a translator: configuration, tokenizer, weights of a checkpoint; no ranks, no engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from smoe_ds.config.load import load_run
from smoe_ds.config.run import RunConfig
from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.decode.translator import Translator
from smoe_ds.engine.format import LATEST, read_weights, resolve_checkpoint, step_of
from smoe_ds.engine.state import persistent_buffers
from smoe_ds.errors import CheckpointError
from smoe_ds.model.transformer import Transformer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_NAMED = 3  # names listed in a message


class RunFolder:
    """A trained run on disk.

    Args:
        path: the run folder, or one of its checkpoints, ``RUN/checkpoints/step_N``.
        overrides: ``"smoe.decode.beam_size=1"`` and the like, applied to the run's configuration.
        dtype: ``float32``, ``bfloat16`` or ``float16``: what the model computes in; gate and scores stay float32.
        device: where translators run; by default the GPU if there is one.

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
    ) -> None:
        self.given = Path(path)
        self.folder = _run_folder_of(self.given)
        self.config: RunConfig = load_run(self.folder / "config.json", overrides)
        self.tokenizer = Tokenizer(self.folder / "tokenizer.model")
        self.dtype = DTYPES[dtype]
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def checkpoint(self, which: str | int = "best") -> Path:
        """The checkpoint folder that is meant: ``best``, ``last`` or a step.

        Raises:
            CheckpointError: there is none, or the folder given is itself another step.
        """
        if self.given != self.folder:
            if isinstance(which, int) and which != step_of(self.given):
                raise CheckpointError(f"{self.given}: is not step {which}; give the run folder {self.folder}")
            return self.given
        return resolve_checkpoint(self.folder, LATEST if which == "last" else which)

    def translator(self, checkpoint: Path) -> Translator:
        """A translator with a checkpoint's weights.

        Raises:
            CheckpointError: the checkpoint is damaged or belongs to another model.
        """
        model = self._model()
        load_weights(model, read_weights(checkpoint), checkpoint)
        return self._translator(model)

    def untrained_translator(self) -> Translator:
        """A translator with the weights that the run began with."""
        return self._translator(self._model())

    def _model(self) -> Transformer:
        smoe = self.config.smoe
        return Transformer(smoe.model, smoe.moe, self.tokenizer.vocab_size, seed=smoe.train.seed)

    def _translator(self, model: Transformer) -> Translator:
        smoe = self.config.smoe
        return Translator(model.to(self.dtype), self.tokenizer, smoe.data, smoe.decode, self.device)


def load_translator(
    path: Path,
    which: str | int = "best",
    overrides: Sequence[str] = (),
    *,
    dtype: str = "float32",
    device: torch.device | str | None = None,
) -> Translator:
    """A translator from a run folder or a checkpoint folder in it; for arguments and errors see :class:`RunFolder`.

    Args:
        path: run folder, or ``RUN/checkpoints/step_N``.
        which: ``best`` (by validation loss), ``last`` or a step.
        overrides: changes to the run's configuration.
        dtype: what the model computes in.
        device: where it runs; by default the GPU if there is one.
    """
    run = RunFolder(path, overrides, dtype=dtype, device=device)
    return run.translator(run.checkpoint(which))


def load_weights(model: Transformer, weights: Mapping[str, Tensor], source: Path) -> None:
    """Copy weights into a model that has exactly these parameters.

    Raises:
        CheckpointError: names or shapes differ; the message lists the first ones.
    """
    parameters = {**dict(model.named_parameters()), **persistent_buffers(model)}
    problems = [
        *_listed("missing", [name for name in parameters if name not in weights]),
        *_listed("not in this model", [name for name in weights if name not in parameters]),
        *_listed(
            "of another shape",
            [
                f"{name} {list(weights[name].shape)} instead of {list(parameter.shape)}"
                for name, parameter in parameters.items()
                if name in weights and weights[name].shape != parameter.shape
            ],
        ),
    ]
    if problems:
        raise CheckpointError(
            f"{source}: does not fit the model of config.json: {'; '.join(problems)}; "
            "config.json, tokenizer.model and the checkpoint must be of one run"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def _listed(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return [f"{len(names)} parameters {what} ({', '.join(names[:_NAMED])}{more})"]


def _run_folder_of(path: Path) -> Path:
    """The run folder that is ``path`` or holds the checkpoint ``path``."""
    for folder in (path, path.parent.parent):
        if (folder / "config.json").is_file():
            return folder
    what = "no such folder" if not path.is_dir() else "no run folder: config.json is missing"
    raise CheckpointError(f"{path}: {what}; give the output_dir of a training run, or RUN/checkpoints/step_N in it")
