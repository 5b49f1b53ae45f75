"""Trains the SentencePiece vocabulary on a temperature sample of the training text."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.cleaning.hash_sets import distinct
from data_prep.held_out.splits import Part, Parts
from data_prep.spec.sections import Spec
from data_prep.vocabulary.normalization import completed, training_options
from data_prep.vocabulary.sampling import language_quotas, repetitions
from smoe_ds.data.tokenizer import BOS_ID, EOS_ID, PAD_ID, UNK_ID, Tokenizer, language_token
from smoe_ds.errors import DataError

_TOO_HIGH = re.compile(r"too high \(\d+\).*?<= (\d+)")
_TOO_SMALL = re.compile(r"(?:smaller than required_chars|too small)[^\d]*(?:\d+ vs )?(\d+)?")


def given_vocabulary(spec: Spec, base: Path) -> Tokenizer | None:
    """The model that a specification names; None where one is to be trained.

    Args:
        spec: the specification.
        base: folder that relative paths are relative to.

    Raises:
        DataError: it is no model that data_prep wrote, or lacks a token for a language.
    """
    if spec.sentencepiece.model is None:
        return None
    tokenizer = Tokenizer(base / spec.sentencepiece.model)
    lacking = [language for language in spec.languages if language not in tokenizer.languages]
    if lacking:
        raise DataError(
            f"sentencepiece.model: {tokenizer.model_file}: no token for language {', '.join(map(repr, lacking))}; the "
            f"vocabulary knows: {', '.join(tokenizer.languages) or 'none'}; name another model, or none to train one"
        )
    return tokenizer


def train_vocabulary(spec: Spec, parts: Parts) -> tuple[bytes, dict[str, Any]]:
    """Trains the model.

    Args:
        spec: the specification.
        parts: the training text.

    Returns:
        the model file's content, and per language the distinct sentences and those sampled.

    Raises:
        DataError: the text does not hold as many pieces as asked for, or needs more.
    """
    sides = {
        language: [(parts[pair.pair, "train"], pair.languages.index(language)) for pair in spec.pairs
                   if language in pair.languages and (pair.pair, "train") in parts]
        for language in spec.languages
    }  # fmt: skip
    sentences = {language: len(distinct(_keys(sides[language]))) for language in spec.languages}
    settings = spec.sentencepiece
    quotas = language_quotas(sentences, settings.temperature, settings.sentences)
    sample = _sample(spec, sides, quotas)
    report = {name: {"sentences": sentences[name], "sampled": quotas[name]} for name in spec.languages}
    return _train(spec, sample), report


def _keys(sides: list[tuple[Part, int]]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.uint64), *(part.keys()[:, side] for part, side in sides)])


def _sample(spec: Spec, sides: dict[str, list[tuple[Part, int]]], quotas: dict[str, int]) -> Iterator[str]:
    """The sentences of the sample, language by language in a fixed order."""
    for language in spec.languages:
        counts = repetitions(_keys(sides[language]), quotas[language], spec.seed)
        start = 0
        for part, side in sides[language]:
            rows = np.flatnonzero(part.mask)
            times = counts[start : start + len(rows)]
            start += len(rows)
            taken = np.zeros(len(part.mask), bool)
            taken[rows[times > 0]] = True
            for line, repeat in zip(part.spool.lines(side, taken), times[times > 0].tolist(), strict=True):
                text = line.decode("utf-8")
                for _ in range(repeat):
                    yield text


def _train(spec: Spec, sample: Iterator[str]) -> bytes:
    import sentencepiece

    settings = spec.sentencepiece
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sample,
            model_writer=model,
            model_type=settings.model_type,
            vocab_size=settings.vocab_size,
            hard_vocab_limit=not settings.allow_smaller,
            character_coverage=settings.character_coverage,
            byte_fallback=True,
            **training_options(settings.normalization),
            pad_id=PAD_ID,
            bos_id=BOS_ID,
            eos_id=EOS_ID,
            unk_id=UNK_ID,
            control_symbols=[
                *(language_token(language) for language in spec.languages),
                *(f"<reserved_{number}>" for number in range(settings.reserved)),
            ],
            input_sentence_size=0,
            shuffle_input_sentence=False,
            max_sentence_length=8 * spec.clean.max_characters,
            num_threads=settings.num_threads,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise DataError(_explain(str(error), settings.vocab_size)) from error
    return completed(model.getvalue(), settings.normalization)


def _explain(message: str, vocab_size: int) -> str:
    if match := _TOO_HIGH.search(message):
        return (
            f"sentencepiece.vocab_size: {vocab_size} is more than this text has, which is {match[1]}; "
            f"set it to {match[1]} or less, or set sentencepiece.allow_smaller to true, or add text"
        )
    if _TOO_SMALL.search(message):
        return (
            f"sentencepiece.vocab_size: {vocab_size} is too small for the special, byte and language tokens and the "
            f"characters of this text ({' '.join(message.split())}); raise it or lower sentencepiece.character_coverage"
        )
    return f"sentencepiece: training failed: {' '.join(message.split())}"
