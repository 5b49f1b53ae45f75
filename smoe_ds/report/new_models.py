"""What the commands that write a model say of it, each in one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from smoe_ds.convert.export_trained import Exported
from smoe_ds.huggingface.import_folder import Taken
from smoe_ds.weights.deepspeed_files import DeepSpeedWeights


def exported_text(found: Exported) -> str:
    """A model for inference."""
    size = f"{found.parameters:,} parameters in {found.dtype} ({found.bytes / 2**20:.1f} MiB)"
    return f"wrote step {found.step}, {size}, to {found.folder}"


def exported_elsewhere_text(name: str, step: int, parameters: int, dtype: str, folder: Path) -> str:
    """A model in another program's format."""
    return f"wrote step {step}, {parameters:,} parameters in {dtype}, for {name} to {folder}"


def imported_text(found: DeepSpeedWeights, source: Path, output: Path) -> str:
    """The weights of a checkpoint that DeepSpeed saved."""
    rounded = "" if found.precision == "float32" else f", rounded to {found.precision} by the engine that saved them"
    return (
        f"wrote the weights of {source}, step {found.step}{rounded}, to {output}; Adam's state, the position in the "
        "data and the loss scale are not imported"
    )


def taken_text(taken: Taken, source: Path, output: Path) -> str:
    """A model of transformers."""
    return (
        f"wrote the {taken.kind} model of {source}, {taken.parameters:,} parameters, {taken.languages} languages, to "
        f"{output}; translate with it, or train on with smoe.train.init_from={output}"
    )


def upcycled_text(strata: Sequence[int], parameters: int, dense_parameters: int, output: Path) -> str:
    """A mixture of experts made from a dense model."""
    return (
        f"wrote a model with strata {list(strata)} and {parameters:,} parameters (the dense one has "
        f"{dense_parameters:,}) to {output}; to train it, set smoe.train.init_from={output}"
    )
