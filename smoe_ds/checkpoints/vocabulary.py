"""Which vocabulary the weights of a checkpoint were trained with, by the digest of its file."""

from __future__ import annotations

from pathlib import Path

from smoe_ds.checkpoints.format import read_state
from smoe_ds.errors import CheckpointError

VOCABULARY = "vocabulary"
"""Key of the digest among what a checkpoint's ``state.json`` keeps (``extra``)."""


def check_vocabulary(checkpoint: Path, tokenizer: Path, sha256: str) -> None:
    """Refuses a vocabulary that is not the one of the weights; checkpoints by earlier versions do not tell theirs.

    Args:
        checkpoint: a folder of weights.
        tokenizer: file of the vocabulary, for the message.
        sha256: of that file, hexadecimal.

    Raises:
        CheckpointError: another one is recorded.
    """
    recorded = recorded_vocabulary(checkpoint)
    if recorded is not None and recorded != sha256:
        raise CheckpointError(
            f"{checkpoint}: its weights are of another vocabulary than {tokenizer}: SHA-256 {recorded[:12]}... is "
            f"recorded, found {sha256[:12]}...; put the tokenizer.model that belongs to these weights there"
        )


def recorded_vocabulary(checkpoint: Path) -> str | None:
    """The digest that a checkpoint has recorded; None if it has none, or cannot be read, which is found elsewhere."""
    try:
        extra = read_state(checkpoint).get("extra")
    except CheckpointError:
        return None
    found = extra.get(VOCABULARY) if isinstance(extra, dict) else None
    return found if isinstance(found, str) else None
