"""``smoe.data``: which prepared corpus is read, and how batches are made from it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from smoe_ds.config.section import Section


class DataConfig(Section):
    """Prepared corpus, mixture of directions, token budget."""

    path: str = Field(
        description="Folder written by `python -m data_prep`. A relative path starts in the folder you are in."
    )
    vocab_size: int | None = Field(
        default=None,
        gt=0,
        description="Size of the vocabulary the corpus will have. `smoe-ds plan` uses it as long as `path` is not "
        "prepared; training uses the corpus's own.",
    )
    directions: list[str] | None = Field(
        default=None,
        description='Directions to train, e.g. ["eng-nso", "nso-eng"]. null: both, for every pair with training text.',
    )
    temperature: float = Field(
        default=1.0,
        ge=1,
        description="Sampling temperature T: the share of a direction is proportional to sentences^(1/T).",
    )
    max_tokens: int = Field(
        default=8192,
        gt=0,
        description="Token budget of a micro-batch: sentences x (longest source + longest target), padding included.",
    )
    window: int | None = Field(
        default=None,
        gt=0,
        description="Sentence pairs that are drawn at a time, sorted by length and cut into micro-batches. null: "
        "98304, plus up to 16 for each token of max_tokens beyond 8192, because few micro-batches in a window mean "
        "much padding.",
    )
    prefetch_steps: int = Field(
        default=2, ge=0, description="Steps for which a background thread prepares batches in advance. 0: no thread."
    )
    source_language_token: Literal[True, False, "source", "source_at_end"] = Field(
        default=True,
        description="Token before the source sentence. true: that of the target language (SMaLL-100 too); source: that "
        "of its own language (M2M100, NLLB), so translating needs to know it; source_at_end: that one, but behind the "
        "end of sentence (NLLB as it was trained, legacy_behaviour in transformers); false: none.",
    )
    target_language_token: Literal[True, False, "after_end", "end"] = Field(
        default=True,
        description="What the decoder starts with. true: the token of the target language; false: the "
        "begin-of-sentence token; after_end: the end-of-sentence token and then that of the target language, which "
        "training also predicts (M2M100, NLLB); end: the end-of-sentence token alone (SMaLL-100).",
    )
