"""The vocabulary of a folder of transformers: which token has which row of the embedding.

NLLB's tokenizer numbers the pieces of its SentencePiece model from 4 on, behind fairseq's four special tokens. That of
M2M100 has a file of its own for it, ``vocab.json``. Languages and other added tokens come after the pieces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.errors import CheckpointError, DataError
from smoe_ds.huggingface.folder import SENTENCEPIECE, TOKENIZER_CONFIG, read_json
from smoe_ds.huggingface.language_codes import code_of, stem
from smoe_ds.huggingface.m2m100_languages import LANGUAGE_CODES

if TYPE_CHECKING:
    from sentencepiece.sentencepiece_model_pb2 import ModelProto

SPECIAL = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
"""Ids of fairseq's special tokens."""
_OFFSET = 1
"""What fairseq's ids of pieces are above SentencePiece's, which has no padding."""
VOCAB, ADDED, TOKENIZER, SPECIAL_MAP = "vocab.json", "added_tokens.json", "tokenizer.json", "special_tokens_map.json"


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary of theirs.

    Attributes:
        model: the SentencePiece model.
        piece_rows: row of each of its pieces, by its number there; None where a piece has none.
        languages: row of each language's token, by their code, e.g. ``cat_Latn``; in the order of rows.
    """

    model: ModelProto
    piece_rows: tuple[int | None, ...]
    languages: dict[str, int]


def read_vocabulary(folder: Path, sentencepiece_file: Path | None = None) -> Vocabulary:
    """The vocabulary of a folder.

    Args:
        folder: where ``tokenizer_config.json`` and the like are.
        sentencepiece_file: the SentencePiece model; None: ``sentencepiece.bpe.model`` of the folder.

    Raises:
        CheckpointError: a file is missing or damaged, or numbers its tokens otherwise.
        DataError: the SentencePiece model is none.
    """
    path = sentencepiece_file or folder / SENTENCEPIECE
    model = _read_model(path)
    numbers = _vocab_json(folder / VOCAB) if (folder / VOCAB).is_file() else None
    rows = tuple(_rows_of_pieces(model, numbers))
    first = len(model.pieces) + _OFFSET if numbers is None else max(numbers.values()) + 1
    languages = _languages(_added_tokens(folder, first))
    if not languages and numbers is not None:
        languages = {code: first + i for i, code in enumerate(_known_by_heart(folder))}
    if not languages:
        raise CheckpointError(
            f"{folder}: no file says which tokens are languages ({TOKENIZER_CONFIG}, {ADDED}, {TOKENIZER}, "
            f"{SPECIAL_MAP}); download the whole folder"
        )
    return Vocabulary(model, rows, dict(sorted(languages.items(), key=lambda item: item[1])))


def _read_model(path: Path) -> ModelProto:
    from google.protobuf.message import DecodeError
    from sentencepiece.sentencepiece_model_pb2 import ModelProto

    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read: {error.strerror}; a SentencePiece model is needed, name one with --tokenizer FILE"
        ) from error
    model = ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise DataError(f"{path}: is not a SentencePiece model ({len(content)} bytes)") from error
    first = [piece.piece for piece in model.pieces[:3]]
    if first != ["<unk>", "<s>", "</s>"]:
        raise DataError(f"{path}: begins with the pieces {first}, expected <unk>, <s> and </s>; is it of this model?")
    return model


def _vocab_json(path: Path) -> dict[str, int]:
    numbers = read_json(path)
    if any(numbers.get(token) != row for token, row in SPECIAL.items()) or not all(
        type(row) is int and row >= 0 for row in numbers.values()
    ):
        raise CheckpointError(f"{path}: expected a number for every token, and {SPECIAL}; it is not of M2M100")
    return numbers


def _rows_of_pieces(model: ModelProto, numbers: Mapping[str, int] | None) -> Iterator[int | None]:
    for number, piece in enumerate(model.pieces):
        if piece.piece in SPECIAL:
            yield SPECIAL[piece.piece]
        else:
            yield number + _OFFSET if numbers is None else numbers.get(piece.piece)


def _languages(tokens: Mapping[str, int]) -> dict[str, int]:
    """Those of some tokens that are a language's, by code."""
    codes = ((code_of(token), row) for token, row in tokens.items())
    return {code: row for code, row in codes if code is not None}


def _known_by_heart(folder: Path) -> tuple[str, ...]:
    """The languages of M2M100's tokenizer, where no file lists them."""
    path = folder / TOKENIZER_CONFIG
    content = read_json(path) if path.is_file() else {}
    return LANGUAGE_CODES.get(content.get("language_codes") or "m2m100", ())


def _added_tokens(folder: Path, first: int) -> dict[str, int]:
    """Rows of added tokens: as files number them; where none does, in the order listed, from ``first`` on."""
    found: dict[str, int] = {}
    listed: list[Any] = []
    try:
        for name in (SPECIAL_MAP, TOKENIZER_CONFIG):
            content = read_json(folder / name) if (folder / name).is_file() else {}
            listed = listed or list(content.get("additional_special_tokens") or [])
            decoder = content.get("added_tokens_decoder") or {}
            found |= {entry["content"]: int(row) for row, entry in decoder.items()}
        if (folder / ADDED).is_file():
            found |= {token: int(row) for token, row in read_json(folder / ADDED).items()}
        if (folder / TOKENIZER).is_file():
            found |= {entry["content"]: int(entry["id"]) for entry in read_json(folder / TOKENIZER)["added_tokens"]}
        names = [entry if isinstance(entry, str) else entry["content"] for entry in listed]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{folder}: its list of added tokens is not as transformers writes it ({type(error).__name__}: {error}); "
            "download it again"
        ) from error
    if below := [token for token, row in found.items() if row < 0]:
        raise CheckpointError(
            f"{folder}: its added token {below[0]!r} has the row {found[below[0]]}; download it again"
        )
    return found if any(name in found for name in names) else found | {name: first + i for i, name in enumerate(names)}


def language_names(codes: Mapping[str, int], table: Mapping[str, str], source: str) -> dict[str, str]:
    """Our name of each language, by their code.

    Args:
        codes: their codes.
        table: names that were given; for the others ``cat_Latn`` is ``cat`` where only one code begins so, and stays
            as it is where several do (``zho_Hans``, ``zho_Hant``).
        source: of the table, for messages.

    Raises:
        DataError: the table names a language that is not there, or two languages get one name.
    """
    if unknown := [code for code in table if code not in codes]:
        some = ", ".join(list(codes)[:5])
        raise DataError(f"{source}: the vocabulary has no language {unknown[0]!r}; its codes are {some} ...")
    stems = [stem(code) for code in codes]
    names = {}
    for code, short in zip(codes, stems, strict=True):
        names[code] = table.get(code) or (short if stems.count(short) == 1 else code)
    for code, name in names.items():
        if twin := [other for other, same in names.items() if same == name and other != code]:
            raise DataError(f"{source}: {code} and {twin[0]} would both be {name}; give one another name")
    return names


def read_table(path: Path) -> dict[str, str]:
    """Their code and our name on each line, separated by white space; empty lines and ``#`` comments may be there.

    Raises:
        DataError: the file cannot be read, a line has not two columns, a name is none, or a code or name is there
            twice.
    """
    from smoe_ds.data.tokenizer import LANGUAGE_TOKEN, language_token

    table: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected lines such as: cat_Latn cat") from error
    for number, line in enumerate(lines, start=1):
        columns = line.partition("#")[0].split()
        if not columns:
            continue
        if len(columns) != 2 or not LANGUAGE_TOKEN.fullmatch(language_token(columns[1])):
            raise DataError(f"{path}: line {number}: expected their code and a name of letters, such as: cat_Latn cat")
        code = code_of(columns[0]) or columns[0]
        if code in table or columns[1] in table.values():
            raise DataError(
                f"{path}: line {number}: {' '.join(columns)}: its code or its name is on an earlier line too"
            )
        table[code] = columns[1]
    return table
