"""Their vocabulary as a tokenizer of ours: the same pieces and scores, other ids, one token per language.

The order of ours: padding, begin and end of sentence, unknown; languages; ``<reserved_N>`` for rows that belong to no
piece; pieces; new pieces. No row is left out: the softmax over the vocabulary stays what it was, new tokens aside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from smoe_ds.data.tokenizer import language_token
from smoe_ds.errors import DataError
from smoe_ds.huggingface.language_codes import keep_codes
from smoe_ds.huggingface.new_pieces import NewPieces, new_pieces
from smoe_ds.huggingface.vocabulary import SPECIAL, Vocabulary

_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3  # kinds of pieces in a SentencePiece model


@dataclass(frozen=True)
class Imported:
    """A tokenizer made from theirs.

    Attributes:
        model: the SentencePiece model.
        rows: of each id, the rows of their embedding whose mean it is; nearly always one.
        unseen: pieces that have no row of their own and take that of the unknown token.
        new: pieces that were added, None if none were asked for.
    """

    model: bytes
    rows: tuple[tuple[int, ...], ...]
    unseen: int
    new: NewPieces | None = None


@dataclass(frozen=True)
class Added:
    """What a vocabulary gets beside what it has.

    Attributes:
        languages: new languages, with the languages (by our names) whose mean their row is; an empty list: all.
        pieces: new pieces.
        from_parts: whether the row of a new piece is the mean of the pieces that spell it so far, rather than of all.
    """

    languages: Mapping[str, Sequence[str]] = field(default_factory=dict)
    pieces: Sequence[str] = ()
    from_parts: bool = True


def imported_tokenizer(
    theirs: Vocabulary, vocab_size: int, names: Mapping[str, str], added: Added | None = None
) -> Imported:
    """Builds the tokenizer.

    Args:
        theirs: the vocabulary.
        vocab_size: rows of their embedding.
        names: our name of each language by their code.
        added: new languages and pieces.

    Raises:
        DataError: a new language is there already, a related one is not, a token lies beyond the embedding, or pieces
            cannot be added.
    """
    added = added or Added()
    languages: dict[str, tuple[int, ...]] = {names[code]: (row,) for code, row in theirs.languages.items()}
    for language, related in added.languages.items():
        languages[language] = _mean_of(language, related, languages)
    pieces = [number for number, piece in enumerate(theirs.model.pieces) if piece.piece not in SPECIAL]
    piece_rows = [theirs.piece_rows[number] for number in pieces]
    used = {*SPECIAL.values(), *theirs.languages.values(), *(row for row in piece_rows if row is not None)}
    if used and max(used) >= vocab_size:
        raise DataError(
            f"the tokenizer has a token {max(used)}, but the embedding {vocab_size} rows; they are of "
            "different models, so download the whole folder again"
        )
    reserved = [row for row in range(vocab_size) if row not in used]
    controls = [language_token(name) for name in languages] + [f"<reserved_{n}>" for n in range(len(reserved))]
    rows = [
        *((SPECIAL[token],) for token in ("<pad>", "<s>", "</s>", "<unk>")),
        *languages.values(),
        *((row,) for row in reserved),
        *((SPECIAL["<unk>"] if row is None else row,) for row in piece_rows),
    ]
    codes = {ours: code for code, ours in names.items()}
    new = new_pieces(theirs.model, added.pieces) if added.pieces else None
    if new is not None:
        rows += _rows_of_new(new, theirs, [row for row in piece_rows if row is not None], from_parts=added.from_parts)
    return Imported(_model(theirs, controls, pieces, new, codes), tuple(rows), piece_rows.count(None), new)


def _rows_of_new(new: NewPieces, theirs: Vocabulary, every: list[int], *, from_parts: bool) -> list[tuple[int, ...]]:
    """The rows whose mean each new piece starts as; ``every`` where no piece spells it, as with a new character."""
    of_all = tuple(every)
    of_parts = (
        tuple(row for number in parts if (row := theirs.piece_rows[number]) is not None) for parts in new.parts.values()
    )
    return [rows if rows and from_parts else of_all for rows in of_parts]


def _mean_of(language: str, related: Sequence[str], languages: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    if language in languages:
        raise DataError(f"--add-language {language}: the vocabulary has it already; leave it out")
    if unknown := [name for name in related if name not in languages]:
        some = ", ".join(list(languages)[:5])
        raise DataError(
            f"--add-language {language}: related language {unknown[0]!r} is not there; choose of {some} ..."
        )
    return tuple(dict.fromkeys(row for name in related or languages for row in languages[name]))


def _model(
    theirs: Vocabulary,
    controls: Sequence[str],
    pieces: Sequence[int],
    new: NewPieces | None,
    codes: Mapping[str, str],
) -> bytes:
    from sentencepiece.sentencepiece_model_pb2 import ModelProto

    model = ModelProto()
    model.CopyFrom(theirs.model)
    del model.pieces[:]
    for piece in ("<pad>", "<s>", "</s>"):
        model.pieces.add(piece=piece, score=0.0, type=_CONTROL)
    model.pieces.add(piece="<unk>", score=0.0, type=_UNKNOWN)
    for piece in controls:
        model.pieces.add(piece=piece, score=0.0, type=_CONTROL)
    model.pieces.extend(theirs.model.pieces[number] for number in pieces)
    for piece, score in (new.scores if new else {}).items():
        model.pieces.add(piece=piece, score=score, type=_NORMAL)
    spec = model.trainer_spec
    spec.pad_id, spec.bos_id, spec.eos_id, spec.unk_id = 0, 1, 2, 3
    spec.pad_piece, spec.bos_piece, spec.eos_piece, spec.unk_piece = "<pad>", "<s>", "</s>", "<unk>"
    spec.vocab_size = len(model.pieces)
    del spec.control_symbols[:]
    spec.control_symbols.extend(controls)
    keep_codes(model, codes)
    content: bytes = model.SerializeToString()
    return content
