"""A folder of transformers: its JSON files, and what kind of model it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from smoe_ds.errors import CheckpointError

CONFIG = "config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
SENTENCEPIECE = "sentencepiece.bpe.model"
M2M_100, NLLB_MOE = "m2m_100", "nllb-moe"
KINDS = (M2M_100, NLLB_MOE)


def is_transformers_folder(folder: Path) -> bool:
    """Whether a folder has a ``config.json``, which DeepSpeed's checkpoints never have."""
    return (folder / CONFIG).is_file()


def read_json(path: Path) -> dict[str, Any]:
    """A file that holds one JSON object.

    Raises:
        CheckpointError: it is missing, or holds something else.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}; download the whole folder") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is not JSON ({error}); download it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected an object {{...}}, found {type(content).__name__}")
    return content


def read_config(folder: Path) -> dict[str, Any]:
    """Its ``config.json``, of a kind that can be taken over.

    Raises:
        CheckpointError: it is of another kind.
    """
    config = read_json(folder / CONFIG)
    kind = config.get("model_type")
    if kind not in KINDS:
        raise CheckpointError(
            f"{folder / CONFIG}: model_type is {kind!r}; {' and '.join(KINDS)} can be imported (M2M100, NLLB-200, "
            "NLLB-MoE)"
        )
    return config
