"""A micro-batch of sentence pairs, and how token ids become one.

Shapes: ``B`` sentences, ``S`` source positions, ``T`` target positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from smoe_ds.data.ragged import Int64, Ragged

if TYPE_CHECKING:
    from torch import Tensor

# Fixed by the tokenizer's vocabulary layout; not imported from it, as sentencepiece is not needed to read batches.
PAD_ID = 0
BOS_ID = 1
EOS_ID = 2


@dataclass(frozen=True)
class Batch:
    """One micro-batch, padded on the right with ``PAD_ID``.

    Attributes:
        src: int64 [B, S], language token (if set), pieces, end of sentence.
        tgt_in: int64 [B, T], decoder input: language token or begin of sentence, pieces.
        tgt_out: int64 [B, T], what the decoder is to predict: pieces, end of sentence.
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


def special_tokens_src(source_language_token: bool) -> int:
    """Tokens that a source has besides its pieces."""
    return 2 if source_language_token else 1


# A target has one: the first of ``tgt_in``, or the end of sentence of ``tgt_out``.
SPECIAL_TOKENS_TGT = 1


def collate(
    src: Ragged,
    tgt: Ragged,
    language_ids: Int64,
    directions: tuple[str, ...],
    *,
    source_language_token: bool,
    target_language_token: bool,
    index: int,
) -> Batch:
    """Pads sentence pairs into a batch.

    Args:
        src: piece ids of B sources.
        tgt: piece ids of their targets.
        language_ids: int64 [B], token of each target language.
        directions: B directions.
        source_language_token: put the language token before the source.
        target_language_token: start the decoder with the language token, not with ``BOS_ID``.
        index: number in the global sequence of micro-batches.
    """
    import torch

    padded_src, src_tokens = _padded(src, language_ids if source_language_token else None)
    tgt_out, tgt_tokens = _padded(tgt, None)
    tgt_in = np.empty_like(tgt_out)
    tgt_in[:, 0] = language_ids if target_language_token else BOS_ID
    tgt_in[:, 1:] = tgt_out[:, :-1]
    shorter = np.flatnonzero(tgt.lengths + 1 < tgt_out.shape[1])
    tgt_in[shorter, tgt.lengths[shorter] + 1] = PAD_ID  # where the end of sentence came to lie
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


def _padded(rows: Ragged, first: Int64 | None) -> tuple[NDArray[np.int64], int]:
    """Rows [B, width] of first token (if any), pieces and end of sentence; their tokens."""
    ends = rows.lengths if first is None else rows.lengths + 1
    is_piece = np.arange(int(ends.max()) + 1) < ends[:, None]
    out = np.full(is_piece.shape, PAD_ID, dtype=np.int64)
    if first is not None:
        is_piece[:, 0] = False
        out[:, 0] = first
    out[is_piece] = rows.values
    out[np.arange(len(rows)), ends] = EOS_ID
    return out, int(ends.sum()) + len(rows)
