"""New pieces of a vocabulary that is taken over: those that are asked for, and what makes SentencePiece use them.

A new piece changes encoding as little as it can: where the vocabulary spelt it with several pieces in a row, it now
stands in their place.

- In a unigram model a piece's score is the logarithm of its probability. A new one gets that of its spelling so far,
  the sum of the scores of its pieces, and a trace more.
- A BPE model joins two neighbours at a time, best score first. New joins come after all old ones: their scores go on
  downwards. A piece that is spelt with three pieces or more needs others on the way to it, which are added too.
- A character that the vocabulary lacks becomes a piece too. Its score is the lowest, which is still above unknown.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.errors import DataError

if TYPE_CHECKING:
    from sentencepiece.sentencepiece_model_pb2 import ModelProto

SPACE = "\u2581"
_NORMAL, _BYTE, _UNIGRAM, _BPE = 1, 6, 1, 2  # kinds of pieces, types of models
_TRACE = 1e-3
"""By how much a new piece beats its spelling so far, for each piece that it spares."""


@dataclass(frozen=True)
class NewPieces:
    """Pieces to add.

    Attributes:
        scores: score of each new piece, in their order.
        parts: of each, the numbers of the old pieces that spell it; empty where a character is new.
        on_the_way: how many of them were not asked for, but lead to one that was.
        there_already: how many that were asked for the vocabulary has.
        never_met: those that its normalisation changes, so that no text has them.
    """

    scores: dict[str, float]
    parts: dict[str, tuple[int, ...]]
    on_the_way: int = 0
    there_already: int = 0
    never_met: tuple[str, ...] = ()


def read_pieces(path: Path) -> list[str]:
    """The pieces that a file names.

    Args:
        path: a SentencePiece model (``*.model``), or text with a piece a line. What follows a tab is left out, so that
            it may be the ``.vocab`` of SentencePiece.

    Raises:
        DataError: the file cannot be read, names nothing, names a piece twice, or a line is no piece.
    """
    pieces = _of_model(path) if path.suffix == ".model" else list(_of_text(path))
    if not pieces:
        raise DataError(f"{path}: names no pieces; expected one a line, such as {SPACE}kulu")
    return pieces


def _of_model(path: Path) -> list[str]:
    from google.protobuf.message import DecodeError
    from sentencepiece.sentencepiece_model_pb2 import ModelProto

    model = ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except DecodeError as error:
        raise DataError(f"{path}: is not a SentencePiece model; name text otherwise than *.model") from error
    return [piece.piece for piece in model.pieces if piece.type == _NORMAL]


def _of_text(path: Path) -> Iterator[str]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected a piece a line, in UTF-8") from error
    first: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        piece = line.removesuffix("\r").partition("\t")[0]
        if not piece or (piece.startswith("<") and piece.endswith(">") and len(piece) > 2):
            continue  # <unk> and the like of a .vocab
        if any(character.isspace() for character in piece) or SPACE in piece[1:]:
            raise DataError(
                f"{path}: line {number}: {piece!r} is no piece; a piece lies within a word, and where it begins one it "
                f"has {SPACE} (U+2581) in place of the space"
            )
        if piece in first:
            raise DataError(f"{path}: line {number}: {piece} is on line {first[piece]} too; take one out")
        first[piece] = number
        yield piece


def new_pieces(model: ModelProto, wanted: Sequence[str]) -> NewPieces:
    """What to add to a model, so that it uses pieces.

    Args:
        model: the model.
        wanted: the pieces; earlier ones come first where two compete.

    Raises:
        DataError: the model is of a type that has no such pieces, or has all of them.
    """
    if model.trainer_spec.model_type not in (_UNIGRAM, _BPE):
        raise DataError("--add-pieces: the SentencePiece model cuts text into words or characters; leave it out")
    there = {piece.piece for piece in model.pieces}
    fresh = [piece for piece in wanted if piece not in there]
    if not fresh:
        raise DataError("--add-pieces: the vocabulary has all of these pieces already; leave it out")
    kept = [piece for piece, same in zip(fresh, _unchanged(model, fresh), strict=True) if same]
    if not kept:
        raise DataError(
            f"--add-pieces: the vocabulary's normalisation changes all of these pieces, such as {fresh[0]!r}, so that "
            "no text has them; leave them out"
        )
    spelling = _Bpe(model) if model.trainer_spec.model_type == _BPE else _Unigram(model)
    numbers = {piece.piece: number for number, piece in enumerate(model.pieces)}
    old = dict(spelling.scores)
    for piece in kept:
        for character in piece:
            spelling.add_character(character)
        spelling.add(piece)
    scores = {piece: score for piece, score in spelling.scores.items() if piece not in old}
    known = set(kept)
    before = type(spelling)(model)
    parts = {piece: tuple(_numbers(before.cut(piece), numbers)) for piece in scores}
    never = tuple(piece for piece in fresh if piece not in known)
    return NewPieces(scores, parts, len(scores.keys() - known), len(wanted) - len(fresh), never)


def _unchanged(model: ModelProto, pieces: Sequence[str]) -> Iterator[bool]:
    """Whether the model's normalisation leaves each piece as it is."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    for piece in pieces:
        text = piece.removeprefix(SPACE)
        yield not text or processor.normalize(text).removeprefix(SPACE) == text


def _numbers(pieces: Iterable[str], numbers: dict[str, int]) -> Iterator[int]:
    """Numbers of pieces; a character without a piece is spelt in bytes where the model has them, or left out."""
    for piece in pieces:
        if piece in numbers:
            yield numbers[piece]
        else:
            spelt = (f"<0x{byte:02X}>" for byte in piece.encode())
            yield from (numbers[one] for one in spelt if one in numbers)


class _Bpe:
    """Cuts text as a BPE model does, and takes new pieces."""

    def __init__(self, model: ModelProto) -> None:
        self.scores = {piece.piece: piece.score for piece in model.pieces if piece.type == _NORMAL}
        self._lowest = min(self.scores.values(), default=0.0)

    def cut(self, text: str) -> list[str]:
        """Joins the two neighbours whose union has the best score, the first of them if several have it."""
        parts = list(text)
        while len(parts) > 1:
            joins = [self.scores.get(one + other, -math.inf) for one, other in itertools.pairwise(parts)]
            best = max(joins)
            if best == -math.inf:
                break
            place = joins.index(best)
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        return parts

    def add(self, piece: str) -> None:
        while len(parts := self.cut(piece)) > 1:
            self._put(parts[0] + parts[1])

    def add_character(self, character: str) -> None:
        if character not in self.scores:
            self._put(character)

    def _put(self, piece: str) -> None:
        self._lowest -= 1
        self.scores[piece] = self._lowest


class _Unigram:
    """Cuts text as a unigram model does, and takes new pieces."""

    def __init__(self, model: ModelProto) -> None:
        self.scores = {piece.piece: piece.score for piece in model.pieces if piece.type == _NORMAL}
        self._lowest = min(self.scores.values(), default=0.0)
        self._unknown = self._lowest - 10  # as in SentencePiece

    def cut(self, text: str) -> list[str]:
        """The pieces with the highest sum of scores."""
        best: list[tuple[float, int]] = [(0.0, 0)]
        for end in range(1, len(text) + 1):
            ways = [
                (best[start][0] + score, start)
                for start in range(end)
                if (score := self._score(text[start:end])) is not None
            ]
            best.append(max(ways))
        parts, end = [], len(text)
        while end:
            start = best[end][1]
            parts.append(text[start:end])
            end = start
        return parts[::-1]

    def _score(self, piece: str) -> float | None:
        return self.scores.get(piece, self._unknown if len(piece) == 1 else None)

    def add(self, piece: str) -> None:
        parts = self.cut(piece)
        if len(parts) > 1:
            total = sum(score for part in parts if (score := self._score(part)) is not None)
            self.scores[piece] = total + _TRACE * (len(parts) - 1)

    def add_character(self, character: str) -> None:
        self.scores.setdefault(character, self._lowest)
