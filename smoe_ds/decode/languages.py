"""The tokens of a direction's languages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from smoe_ds.data.framing import Framing
from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.errors import DataError


class LanguageIds(NamedTuple):
    """Ids of the tokens of two languages; that of the source is the target's where no sentence carries it."""

    source: int
    target: int


def language_ids(
    tokenizer: Tokenizer, framing: Framing, targets: Sequence[str] | None, source_language: str | None, language: str
) -> LanguageIds:
    """Those of a direction.

    Args:
        tokenizer: the vocabulary.
        framing: whether sources carry the token of their language.
        targets: languages that the model can translate into; None: all of the vocabulary.
        source_language: e.g. ``eng``; None: not told.
        language: to translate into, e.g. ``cat``.

    Raises:
        DataError: the vocabulary has no such language, the model was exported without its experts, or the source
            language is needed and not told.
    """
    target = target_id(tokenizer, targets, language)
    if not framing.names_source_language:
        return LanguageIds(target, target)
    if source_language is None:
        raise DataError(
            f"the model reads the language of its input (smoe.data.source_language_token is {framing.source}); name it "
            "with --from"
        )
    return LanguageIds(tokenizer.language_id(source_language), target)


def target_id(tokenizer: Tokenizer, targets: Sequence[str] | None, language: str) -> int:
    """Id of the token of a language to translate into.

    Args:
        tokenizer: the vocabulary.
        targets: languages that the model can translate into; None: all of the vocabulary.
        language: e.g. ``cat``.

    Raises:
        DataError: the vocabulary has no such language, or the model was exported without its experts.
    """
    language_id = tokenizer.language_id(language)
    if targets is not None and language not in targets:
        raise DataError(
            f"language {language!r}: its experts were left out when the model was exported, which translates into "
            f"{', '.join(targets)} only; choose one of these, or export the run with --directions that include it"
        )
    return language_id
