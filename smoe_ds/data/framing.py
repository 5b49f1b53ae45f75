"""The special tokens around a sentence pair: which there are, whose language they name, where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smoe_ds.data.ragged import Int64

if TYPE_CHECKING:
    from smoe_ds.config.data import DataConfig

# Fixed by the tokenizer's vocabulary layout; not imported from it, as sentencepiece is not needed to read batches.
BOS_ID = 1
EOS_ID = 2


@dataclass(frozen=True)
class Framing:
    """How a run frames its sentences; every source and every target has an end of sentence behind its pieces.

    Attributes:
        source: ``smoe.data.source_language_token``.
        target: ``smoe.data.target_language_token``.
    """

    source: bool | str
    target: bool | str

    @classmethod
    def of(cls, config: DataConfig) -> Framing:
        """That of a run."""
        return cls(config.source_language_token, config.target_language_token)

    @property
    def names_source_language(self) -> bool:
        """Whether the source's token is that of its own language, so that one has to know it."""
        return self.source in ("source", "source_at_end")

    @property
    def before_pieces(self) -> int:
        """Tokens that a source has before its pieces."""
        return 1 if self.source and self.source != "source_at_end" else 0

    @property
    def special_src(self) -> int:
        """Tokens that a source has besides its pieces."""
        return 2 if self.source else 1

    @property
    def special_tgt(self) -> int:
        """Tokens that a decoder input has besides its pieces; what it is to predict has as many."""
        return 2 if self.target == "after_end" else 1

    def before_source(self, src_languages: Int64, tgt_languages: Int64) -> Int64 | None:
        """The first token of each source [B]; None where there is none before the pieces."""
        if not self.before_pieces:
            return None
        return src_languages if self.names_source_language else tgt_languages

    def after_source(self, src_languages: Int64) -> Int64 | None:
        """The token [B] behind each source's end of sentence; None where there is none."""
        return src_languages if self.source == "source_at_end" else None

    def predicted_first(self, tgt_languages: Int64) -> Int64 | None:
        """The first token [B] that the decoder is to predict; None where it is the first piece."""
        return tgt_languages if self.target == "after_end" else None

    def decoder_start(self, tgt_languages: Int64) -> Int64:
        """The first token of each decoder input [B]."""
        if self.target in ("after_end", "end"):
            return np.full_like(tgt_languages, EOS_ID)
        return tgt_languages if self.target else np.full_like(tgt_languages, BOS_ID)
