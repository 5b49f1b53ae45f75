"""Text to vocabulary ids and back: SentencePiece with byte fallback and one control token per language."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from smoe_ds.data.ragged import Ragged
from smoe_ds.errors import DataError

PAD_ID, BOS_ID, EOS_ID, UNK_ID = 0, 1, 2, 3
Span = tuple[int, int]
"""First byte of a piece in its text, as UTF-8, and the one after its last."""
_ROWS = 4096  # sentences encoded at a time: arrays of their own for each of more would leave the processor's cache
LANGUAGE_TOKEN = re.compile(r"<2([A-Za-z][A-Za-z0-9_]*)>")


def language_token(language: str) -> str:
    """The vocabulary's spelling of a language, e.g. ``<2nso>``."""
    return f"<2{language}>"


class Tokenizer:
    """A SentencePiece model whose ids 0 to 3 are pad, bos, eos and unk, with a control token ``<2xxx>`` per language.

    Further control tokens ``<reserved_N>`` are there for later use. Control tokens never come out of `encode`, whatever
    the text says. What is changed in text before it is cut into pieces is part of the model, see `normalization`.
    """

    pad_id = PAD_ID
    bos_id = BOS_ID
    eos_id = EOS_ID
    unk_id = UNK_ID

    def __init__(self, model_file: Path) -> None:
        """Loads a model.

        Args:
            model_file: SentencePiece model, e.g. ``tokenizer.model`` of a prepared corpus.

        Raises:
            DataError: the file is missing, is not a SentencePiece model, or numbers its special tokens differently.
        """
        self.model_file = Path(model_file)
        try:
            self._model = self.model_file.read_bytes()
        except OSError as error:
            raise DataError(f"{self.model_file}: cannot read the SentencePiece model: {error.strerror}") from error
        self._processor = _load(self._model, self.model_file)
        self.vocab_size: int = self._processor.get_piece_size()
        self._control = {index for index in range(self.vocab_size) if self._processor.IsControl(index)}
        self._language_ids = self._find_languages()

    def _find_languages(self) -> dict[str, int]:
        matches = (
            (index, LANGUAGE_TOKEN.fullmatch(self._processor.IdToPiece(index))) for index in sorted(self._control)
        )
        return {match[1]: index for index, match in matches if match}

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages with a token, in the order of their ids."""
        return tuple(self._language_ids)

    @property
    def language_ids(self) -> dict[str, int]:
        """Id of each language's token."""
        return dict(self._language_ids)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the model file, hexadecimal."""
        return hashlib.sha256(self._model).hexdigest()

    @cached_property
    def normalization(self) -> str:
        """Name of the rule by which the model changes text before it is cut into pieces.

        ``nfc`` of data_prep, which changes nothing a reader sees; or one of SentencePiece's, e.g. ``nmt_nfkc``.
        """
        import sentencepiece

        spec = sentencepiece.SentencePieceNormalizer(model_proto=self._model).serialized_normalizer_spec()
        return (
            spec[2 : 2 + spec[1]].decode() if spec[:1] == b"\n" else ""
        )  # the first field of NormalizerSpec: its name

    def language_id(self, language: str) -> int:
        """Id of a language's token.

        Raises:
            DataError: the vocabulary has no such token.
        """
        if language not in self._language_ids:
            known = ", ".join(self._language_ids) or "none"
            raise DataError(f"{self.model_file}: no token for language {language!r}; the vocabulary knows: {known}")
        return self._language_ids[language]

    def vocabulary(self) -> list[tuple[str, str]]:
        """Spelling and kind of every id: ``normal``, ``byte``, ``control`` or ``unknown``."""
        spellings = self._processor.IdToPiece(list(range(self.vocab_size)))
        return [(spelling, self._kind(index, spelling)) for index, spelling in enumerate(spellings)]

    def _kind(self, index: int, spelling: str) -> str:
        if index in self._control:
            return "control"
        if index == UNK_ID:
            return "unknown"
        return "byte" if spelling.startswith("<0x") and self._processor.IsByte(index) else "normal"

    def encode(self, text: str) -> list[int]:
        """Ids of a sentence's pieces, without special or language tokens."""
        return self._processor.encode(text, out_type=int)

    def encode_batch(self, texts: Sequence[str], num_threads: int = 1) -> list[list[int]]:
        """Ids of many sentences, encoded together by ``num_threads`` threads; the result does not depend on them."""
        return self._processor.encode(list(texts), out_type=int, num_threads=num_threads)

    def encode_rows(self, texts: Sequence[str] | Sequence[bytes], num_threads: int = 1) -> Ragged:
        """Ids of many sentences as `encode_batch` gives them, int32, one after the other in one array.

        Args:
            texts: the sentences; bytes are UTF-8, and faster than the same text as Python strings.
            num_threads: threads that encode; the result does not depend on them.
        """
        parts = [Ragged(np.empty(0, np.int32), np.empty(0, np.int64))]
        for start in range(0, len(texts), _ROWS):
            some = list(texts[start : start + _ROWS])
            rows = self._processor.encode(some, out_type="numpy", num_threads=num_threads)
            parts.append(Ragged(np.concatenate(rows), np.fromiter(map(len, rows), np.int64, len(rows))))
        return Ragged.concatenate(parts)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of a sequence of ids; special, language and reserved tokens are skipped.

        Raises:
            DataError: an id is outside the vocabulary.
        """
        pieces = [int(index) for index in ids if self._is_text(int(index))]
        if pieces and (min(pieces) < 0 or max(pieces) >= self.vocab_size):
            raise DataError(
                f"{self.model_file}: ids {min(pieces)} to {max(pieces)} do not lie in 0..{self.vocab_size - 1}"
            )
        return self._processor.decode(pieces)

    def _is_text(self, index: int) -> bool:
        return index not in (PAD_ID, BOS_ID, EOS_ID, UNK_ID) and index not in self._control

    def source_spans(self, text: str) -> tuple[str, list[Span | None]]:
        """The text, and where each piece that `encode` cuts it into lies in it."""
        cut = self._processor.encode(text, return_type="proto")
        return text, [(piece.begin, piece.end) for piece in cut.pieces]

    def unknown_parts(self, text: str) -> list[str]:
        """The parts of a text that `encode` finds no piece for, in their order."""
        cut = self._processor.encode(text, return_type="proto")
        return [piece.surface for piece in cut.pieces if piece.id == UNK_ID]

    def target_spans(self, ids: Sequence[int]) -> tuple[str, list[Span | None]]:
        """The text that `decode` gives, and where each id lies in it; None for those that are no part of it.

        The first bytes of a character that is spelled in bytes lie where it begins, and are empty.
        """
        written = self._processor.decode(
            [int(index) for index in ids if self._is_text(int(index))], return_type="proto"
        )
        spans = iter([(piece.begin, piece.end) for piece in written.pieces])
        return written.text, [next(spans) if self._is_text(int(index)) else None for index in ids]

    def decode_rows(self, rows: Ragged, num_threads: int = 1) -> list[str]:
        """Texts of many sequences of ids, as `decode` gives them.

        Args:
            rows: the sequences.
            num_threads: threads that decode; the result does not depend on them.

        Raises:
            DataError: an id is outside the vocabulary.
        """
        values, ends = rows.values.tolist(), np.cumsum(rows.lengths).tolist()
        ids = [values[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        if self._control.union((UNK_ID,)).isdisjoint(values) and max(values, default=0) < self.vocab_size:
            return self._processor.decode(ids, num_threads=num_threads) if ids else []
        return [self.decode(row) for row in ids]


def _load(model: bytes, path: Path):  # type: ignore[no-untyped-def]  # a sentencepiece.SentencePieceProcessor
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
    except RuntimeError as error:
        raise DataError(
            f"{path}: is not a SentencePiece model ({len(model)} bytes); write it with data_prep"
        ) from error
    found = (processor.pad_id(), processor.bos_id(), processor.eos_id(), processor.unk_id())
    if found != (PAD_ID, BOS_ID, EOS_ID, UNK_ID):
        lacking = [name for name, index in zip(("pad", "bos", "eos", "unk"), found, strict=True) if index < 0]
        missing = f"has no piece for {', '.join(lacking)}: " if lacking else ""
        raise DataError(
            f"{path}: {missing}pad, bos, eos, unk have ids {found}, expected {(PAD_ID, BOS_ID, EOS_ID, UNK_ID)}; "
            "use a model written by data_prep or smoe-ds import"
        )
    return processor
