"""Their codes of languages: how a code is spelt as a token, and how a vocabulary of ours keeps the codes it came with.

A token never looks like a word: ``cat_Latn`` as in NLLB, or ``__ca__`` as in M2M100, where the code is ``ca``.
Tokenizers of transformers find added tokens anywhere in a text, so one spelt ``eng`` would cut ``strength``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from smoe_ds.errors import DataError

if TYPE_CHECKING:
    from sentencepiece.sentencepiece_model_pb2 import ModelProto

_WITH_SCRIPT = re.compile(r"[a-z]{2,3}_[A-Z][a-z]{3}")
_UNDERSCORED = re.compile(r"__([A-Za-z][A-Za-z0-9_]*)__")
_BARE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def code_of(token: str) -> str | None:
    """The code of a language's token, ``cat_Latn`` or ``ca``; None if it is no language's."""
    if _WITH_SCRIPT.fullmatch(token):
        return token
    match = _UNDERSCORED.fullmatch(token)
    return match[1] if match else None


def token_of(code: str) -> str:
    """The token of a language's code, or of its name here: ``cat_Latn``, and ``__ca__`` for ``ca``.

    Raises:
        DataError: it is no code.
    """
    if code_of(code) is not None:
        return code
    if not _BARE.fullmatch(code):
        raise DataError(f"{code!r} is not a code of a language; expected one such as cat_Latn or ca")
    return f"__{code}__"


def stem(code: str) -> str:
    """The language of a code without its script: ``cat`` of ``cat_Latn``; other codes as they are."""
    return code.split("_")[0] if _WITH_SCRIPT.fullmatch(code) else code


def language_tokens(languages: Collection[str], codes: Mapping[str, str]) -> dict[str, str]:
    """Their token of each of our languages.

    Args:
        languages: our names.
        codes: their code by our name; a language that is not named has the token of its own name.

    Raises:
        DataError: a code is none, belongs to a language that is not there, or two languages would get one token.
    """
    if unknown := [name for name in codes if name not in languages]:
        some = ", ".join(list(languages)[:5])
        raise DataError(f"the vocabulary has no language {unknown[0]!r}; its languages are {some} ...")
    owners: dict[str, str] = {}
    for name in languages:
        token = token_of(codes.get(name, name))
        if token in owners:
            raise DataError(f"{owners[token]} and {name} would both be {token}; give one another code")
        owners[token] = name
    return {name: token for token, name in owners.items()}


def keep_codes(model: ModelProto, codes: Mapping[str, str]) -> None:
    """Writes their code of each of our languages into a SentencePiece model: it goes wherever the vocabulary goes.

    The field is SentencePiece's list of the languages that a model accepts, which nothing computes with.
    """
    del model.trainer_spec.accept_language[:]
    model.trainer_spec.accept_language.extend(f"{name}={code}" for name, code in codes.items())


def kept_codes(model: ModelProto) -> dict[str, str]:
    """What `keep_codes` wrote; empty for a vocabulary that was not imported."""
    entries = (entry.partition("=") for entry in model.trainer_spec.accept_language)
    return {name: code for name, _, code in entries if name and code}
