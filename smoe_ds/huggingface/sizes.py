"""Sizes in a ``config.json`` against the shapes of the weights beside it, before anything is made of that size."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from smoe_ds.errors import CheckpointError
from smoe_ds.huggingface.folder import CONFIG, NLLB_MOE
from smoe_ds.huggingface.names import SHARED, TIED

_LAYER = re.compile(r"model\.(encoder|decoder)\.layers\.(\d{1,9})\..+")
_EXPERT = re.compile(r"model\.(?:encoder|decoder)\.layers\.\d+\.ffn\.experts\.expert_(\d{1,9})\..+")
_FIRST_MATRIX = re.compile(r"model\.encoder\.layers\.\d+\.(?:ffn\.)?(?:experts\.expert_\d+\.)?fc1\.weight")

Shapes = Mapping[str, tuple[int, ...]]


def check_sizes(config: Mapping[str, Any], shapes: Shapes, folder: Path) -> None:
    """Refuses a size that the weights do not have.

    Layers and experts that the weights have beyond those of the configuration are found later, by name.

    Args:
        config: content of ``config.json``, whose sizes are whole numbers.
        shapes: of all tensors by name.
        folder: for messages.

    Raises:
        CheckpointError: naming the first one.
    """
    for key, found, more_is_fine in _sizes(config, shapes):
        if found != config[key] and not (more_is_fine and found > config[key]):
            there = f"the weights have {found:,}" if found else "no weight with the expected name says so"
            raise CheckpointError(
                f"{folder / CONFIG}: {key} is {config[key]:,}, but {there}; download the whole folder again"
            )


def _sizes(config: Mapping[str, Any], shapes: Shapes) -> Iterator[tuple[str, int, bool]]:
    """Keys of ``config.json``; what the weights say, 0 where they lack it; whether they may have more."""
    embedding = next((shapes[name] for name in (SHARED, *TIED) if name in shapes), ())
    rows, width = embedding if len(embedding) == 2 else (0, 0)
    yield "vocab_size", rows, False
    yield "d_model", width, False
    layers = [match for match in map(_LAYER.fullmatch, shapes) if match]
    for side in ("encoder", "decoder"):
        yield f"{side}_layers", max((int(match[2]) + 1 for match in layers if match[1] == side), default=0), True
    first = [shape[0] for name, shape in shapes.items() if len(shape) == 2 and _FIRST_MATRIX.fullmatch(name)]
    yield "encoder_ffn_dim", first[0] if first else 0, False
    if config["model_type"] == NLLB_MOE and any(_has_experts(config, side) for side in ("encoder", "decoder")):
        experts = [int(match[1]) + 1 for match in map(_EXPERT.fullmatch, shapes) if match]
        yield "num_experts", max(experts, default=0), True


def _has_experts(config: Mapping[str, Any], side: str) -> bool:
    """Whether every n-th layer of an encoder or decoder has experts, and it has n."""
    return 0 < config.get(f"{side}_sparse_step", 4) <= config[f"{side}_layers"]
