"""``tokenizer.json`` for a vocabulary with pieces for bytes: what the fast tokenizers of transformers compute with.

Without this file transformers converts the SentencePiece model itself. That conversion has no fallback to bytes, so
characters outside of the vocabulary would become ``<unk>``.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from smoe_ds.huggingface.vocabulary import SPECIAL

if TYPE_CHECKING:
    from sentencepiece.sentencepiece_model_pb2 import ModelProto

_SPACE = "\u2581"
_NFC, _STAND_IN = "nfc", "\ufdd0"
"""The rule of data_prep, and what its pieces hold where a text has the sign for a space itself."""
_BYTE, _BPE = 6, 2  # kind of a piece, type of a model
_SPELT = "<(?=0x[0-9A-F]{2}>)"
"""Where a text spells a byte's piece, which SentencePiece does not take for one: it is cut there."""


def has_bytes(model: ModelProto) -> bool:
    """Whether characters outside of the vocabulary are spelt in bytes."""
    return any(piece.type == _BYTE for piece in model.pieces)


def fast_tokenizer(model: ModelProto, added: Mapping[int, str], flags: Mapping[str, bool]) -> dict[str, Any]:
    """Content of ``tokenizer.json``.

    Args:
        model: SentencePiece model with pieces for bytes; begins with unknown, begin and end.
        added: special tokens by their ids.
        flags: of each of them.
    """
    tokens = [{"id": row, "content": added[row], **flags} for row in sorted(added)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": tokens,
        "normalizer": {"type": "Sequence", "normalizers": list(_normalizers(model))},
        "pre_tokenizer": _cuts(model),
        "post_processor": None,  # set by the tokenizer's class, since it depends on the source language
        "decoder": {"type": "Sequence", "decoders": list(_decoders(model))},
        "model": _bpe(model) if model.trainer_spec.model_type == _BPE else _unigram(model),
    }


def _normalizers(model: ModelProto) -> Iterator[dict[str, Any]]:
    """What SentencePiece does before it cuts.

    Theirs applies a table to a letter with its marks as one, and loses marks where the table has only the first of two.
    In composed text they are one character, so it is composed first.
    """
    spec = model.normalizer_spec
    if spec.precompiled_charsmap:
        yield {"type": "NFC"}
        yield {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(spec.precompiled_charsmap).decode()}
    if spec.remove_extra_whitespaces:
        yield _replace({"Regex": "^ +| +$"}, "")
        yield _replace({"Regex": " {2,}"}, " ")


def _decoders(model: ModelProto) -> Iterator[dict[str, Any]]:
    yield _replace({"String": _SPACE}, " ")
    yield {"type": "ByteFallback"}
    yield {"type": "Fuse"}
    if model.normalizer_spec.name == _NFC:
        yield _replace({"String": _STAND_IN}, _SPACE)
    if model.normalizer_spec.add_dummy_prefix:
        yield {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _cuts(model: ModelProto) -> dict[str, Any]:
    scheme = "always" if model.normalizer_spec.add_dummy_prefix else "never"
    spaces = {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": scheme, "split": True}
    bytes_spelt = {"type": "Split", "pattern": {"Regex": _SPELT}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [spaces, bytes_spelt]}


def _unigram(model: ModelProto) -> dict[str, Any]:
    vocab: list[list[Any]] = [[token, 0.0] for token in SPECIAL]
    vocab += [[piece.piece, piece.score] for piece in model.pieces[3:]]
    return {"type": "Unigram", "unk_id": SPECIAL["<unk>"], "vocab": vocab, "byte_fallback": True}


def _bpe(model: ModelProto) -> dict[str, Any]:
    """SentencePiece joins the two neighbours whose union has the best score, however the union came about."""
    pieces = [piece for piece in model.pieces[3:] if piece.type != _BYTE]
    vocab = dict(SPECIAL) | {piece.piece: row for row, piece in enumerate(model.pieces[3:], start=len(SPECIAL))}
    known = {piece.piece for piece in pieces}
    merges = [
        [piece.piece[:cut], piece.piece[cut:]]
        for piece in sorted(pieces, key=lambda piece: -piece.score)
        for cut in range(1, len(piece.piece))
        if piece.piece[:cut] in known and piece.piece[cut:] in known
    ]
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": "<unk>",
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": vocab,
        "merges": merges,
    }
