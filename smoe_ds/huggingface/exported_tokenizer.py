"""A tokenizer of ours as one of NLLB's: its files, and which of our ids each of theirs is.

Theirs: ``<s>``, ``<pad>``, ``</s>``, ``<unk>``; pieces; languages; ``<mask>``; what is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.huggingface.fast_tokenizer import fast_tokenizer, has_bytes
from smoe_ds.huggingface.folder import SENTENCEPIECE, TOKENIZER_CONFIG
from smoe_ds.huggingface.language_codes import language_tokens
from smoe_ds.huggingface.vocabulary import SPECIAL, SPECIAL_MAP, TOKENIZER

_UNKNOWN, _CONTROL = 2, 3  # kinds of pieces in a SentencePiece model


@dataclass(frozen=True)
class Exported:
    """A tokenizer of theirs.

    Attributes:
        model: SentencePiece model, with unknown 0, begin 1 and end 2.
        order: our id of each of theirs.
        languages: their id of each language, by its token.
        mask: theirs of ``<mask>``, which is a row that nothing used; None where there is none.
    """

    model: bytes
    order: tuple[int, ...]
    languages: dict[str, int]
    mask: int | None

    def files(self, max_positions: int, *, legacy: bool = False) -> dict[str, bytes | dict[str, Any]]:
        """Content of the tokenizer's files by name: bytes, or JSON.

        Args:
            max_positions: longest text in tokens.
            legacy: whether the token of a source's language stands behind its end of sentence.
        """
        from sentencepiece.sentencepiece_model_pb2 import ModelProto

        mask = "<unk>" if self.mask is None else "<mask>"
        added = {row: token for token, row in SPECIAL.items()}
        added |= {row: token for token, row in self.languages.items()}
        if self.mask is not None:
            added[self.mask] = mask
        flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
        tokens = {
            **{f"{name}_token": token for name, token in (("bos", "<s>"), ("pad", "<pad>"), ("unk", "<unk>"))},
            **{f"{name}_token": "</s>" for name in ("eos", "sep")},
            "cls_token": "<s>",
            "mask_token": mask,
            "additional_special_tokens": list(self.languages),
        }
        config = tokens | {
            "tokenizer_class": "NllbTokenizer",
            "added_tokens_decoder": {str(row): {"content": added[row]} | flags for row in sorted(added)},
            "legacy_behaviour": legacy,
            "model_max_length": max_positions,
            "src_lang": next(iter(self.languages)),
        }
        files: dict[str, bytes | dict[str, Any]] = {SENTENCEPIECE: self.model}
        files |= {TOKENIZER_CONFIG: config, SPECIAL_MAP: tokens}
        model = ModelProto()
        model.ParseFromString(self.model)
        return files | ({TOKENIZER: fast_tokenizer(model, added, flags)} if has_bytes(model) else {})


def exported_tokenizer(ours: Tokenizer, codes: Mapping[str, str]) -> Exported:
    """Theirs of ours.

    Args:
        ours: the vocabulary of a run.
        codes: their code of a language of ours; one that is not named has the token of its name.

    Raises:
        DataError: a code is none, or two languages would get one token.
    """
    from sentencepiece.sentencepiece_model_pb2 import ModelProto

    model = ModelProto()
    model.ParseFromString(ours.model_file.read_bytes())
    tokens = language_tokens(ours.languages, codes)
    languages = {tokens[name]: index for name, index in ours.language_ids.items()}
    special = [ours.bos_id, ours.pad_id, ours.eos_id, ours.unk_id]
    others = [index for index in range(ours.vocab_size) if index not in {*special, *languages.values()}]
    left = [index for index in others if model.pieces[index].type == _CONTROL]
    pieces = [index for index in others if model.pieces[index].type != _CONTROL]
    order = [*special, *pieces, *languages.values(), *left]
    after = len(special) + len(pieces)
    return Exported(
        _model(model, pieces),
        tuple(order),
        {token: after + number for number, token in enumerate(languages)},
        after + len(languages) if left else None,
    )


def _model(ours: Any, pieces: list[int]) -> bytes:
    kept = [ours.pieces[index] for index in pieces]
    model = type(ours)()
    model.CopyFrom(ours)
    del model.pieces[:]
    for number, piece in enumerate(("<unk>", "<s>", "</s>")):
        model.pieces.add(piece=piece, score=0.0, type=_CONTROL if number else _UNKNOWN)
    model.pieces.extend(kept)
    spec = model.trainer_spec
    spec.unk_id, spec.bos_id, spec.eos_id, spec.pad_id = 0, 1, 2, -1
    spec.vocab_size = len(model.pieces)
    del spec.control_symbols[:]
    del spec.accept_language[:]
    content: bytes = model.SerializeToString()
    return content
