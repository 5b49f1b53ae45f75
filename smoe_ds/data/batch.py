"""A micro-batch of sentence pairs, and how token ids become one.

Shapes: ``B`` sentences, ``S`` source positions, ``T`` target positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from smoe_ds.data.framing import EOS_ID, Framing
from smoe_ds.data.ragged import Int64, Ragged

if TYPE_CHECKING:
    from torch import Tensor

PAD_ID = 0  # as the ids in framing.py


@dataclass(frozen=True)
class Batch:
    """One micro-batch, padded on the right with ``PAD_ID``.

    Attributes:
        src: int64 [B, S], language token (if set), pieces, end of sentence, language token (if it stands there).
        tgt_in: int64 [B, T], decoder input: what the framing starts it with, pieces.
        tgt_out: int64 [B, T], what the decoder is to predict: language token (if the framing asks for it), pieces, end
            of sentence.
        num_src_tokens: tokens in ``src`` without padding.
        num_tgt_tokens: tokens in ``tgt_out`` without padding.
        directions: direction of each sentence, B of them.
        index: number in the global sequence of micro-batches; -1 for an empty batch.
    """

    src: Tensor
    tgt_in: Tensor
    tgt_out: Tensor
    num_src_tokens: int
    num_tgt_tokens: int
    directions: tuple[str, ...]
    index: int


def collate(
    src: Ragged,
    tgt: Ragged,
    src_languages: Int64,
    tgt_languages: Int64,
    directions: tuple[str, ...],
    *,
    framing: Framing,
    index: int,
) -> Batch:
    """Pads sentence pairs into a batch.

    Args:
        src: piece ids of B sources.
        tgt: piece ids of their targets.
        src_languages: int64 [B], token of each source language; of use only where the framing names it.
        tgt_languages: int64 [B], token of each target language.
        directions: B directions.
        framing: special tokens.
        index: number in the global sequence of micro-batches.
    """
    import torch

    before, after = framing.before_source(src_languages, tgt_languages), framing.after_source(src_languages)
    padded_src, src_tokens = _padded(src, before, after)
    tgt_out, tgt_tokens = _padded(tgt, framing.predicted_first(tgt_languages))
    tgt_in = np.empty_like(tgt_out)
    tgt_in[:, 0] = framing.decoder_start(tgt_languages)
    tgt_in[:, 1:] = tgt_out[:, :-1]
    lengths = tgt.lengths + framing.special_tgt
    shorter = np.flatnonzero(lengths < tgt_out.shape[1])
    tgt_in[shorter, lengths[shorter]] = PAD_ID  # where the end of sentence came to lie
    return Batch(
        src=torch.from_numpy(padded_src),
        tgt_in=torch.from_numpy(tgt_in),
        tgt_out=torch.from_numpy(tgt_out),
        num_src_tokens=src_tokens,
        num_tgt_tokens=tgt_tokens,
        directions=directions,
        index=index,
    )


def empty_batch() -> Batch:
    """The batch of a rank for which nothing is left: one row of padding, so that collectives still run."""
    import torch

    src, tgt_in, tgt_out = (torch.full((1, 2), PAD_ID, dtype=torch.int64) for _ in range(3))
    return Batch(src, tgt_in, tgt_out, num_src_tokens=0, num_tgt_tokens=0, directions=("",), index=-1)


def _padded(rows: Ragged, first: Int64 | None, last: Int64 | None = None) -> tuple[NDArray[np.int64], int]:
    """Rows [B, width] of first token (if any), pieces, end of sentence and last token (if any); their tokens."""
    ends = rows.lengths if first is None else rows.lengths + 1
    closing = 1 if last is None else 2
    is_piece = np.arange(int(ends.max()) + closing) < ends[:, None]
    out = np.full(is_piece.shape, PAD_ID, dtype=np.int64)
    if first is not None:
        is_piece[:, 0] = False
        out[:, 0] = first
    out[is_piece] = rows.values
    out[np.arange(len(rows)), ends] = EOS_ID
    if last is not None:
        out[np.arange(len(rows)), ends + 1] = last
    return out, int(ends.sum()) + closing * len(rows)
