"""``smoe.data``: which prepared corpus is read, and how batches are made of it."""

from __future__ import annotations

from pydantic import Field

from smoe_ds.config.section import Section


class DataConfig(Section):
    """Prepared corpus, mixture of directions, token budget."""

    path: str = Field(description="Folder written by `python -m data_prep`.")
    vocab_size: int | None = Field(
        default=None,
        gt=0,
        description="Pieces of the vocabulary that the corpus is to be prepared with: `smoe-ds plan` counts with it "
        "while `path` is not prepared. Training takes the corpus's own.",
    )
    directions: list[str] | None = Field(
        default=None,
        description='Directions to train, e.g. ["eng-nso", "nso-eng"]; null: both of every pair with training text.',
    )
    temperature: float = Field(
        default=1.0, ge=1, description="Sampling temperature T: share of a direction ~ sentences^(1/T)."
    )
    max_tokens: int = Field(
        default=8192,
        gt=0,
        description="Token budget of a micro-batch: sentences x (longest source + longest target), padding included.",
    )
    window: int | None = Field(
        default=None,
        gt=0,
        description="Sentence pairs drawn at a time, sorted by length and cut into micro-batches. null: 98304, and for "
        "each token of max_tokens beyond 8192 up to 16 more, since few micro-batches in a window mean much padding.",
    )
    prefetch_steps: int = Field(
        default=2, ge=0, description="Steps whose batches a background thread makes ready ahead; 0: no thread."
    )
    source_language_token: bool = Field(
        default=True, description="Put the target-language token before the source sentence."
    )
    target_language_token: bool = Field(
        default=True,
        description="Start the target with the target-language token instead of the begin-of-sentence token.",
    )
