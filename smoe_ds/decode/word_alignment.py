"""Alignments of words, made of those of pieces."""

from __future__ import annotations

from collections.abc import Sequence

from smoe_ds.data.tidy import tidy
from smoe_ds.data.tokenizer import Span, Tokenizer


def word_pairs(
    tokenizer: Tokenizer, line: str, tokens: Sequence[int], pairs: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Words that have pieces which are aligned.

    Args:
        tokenizer: the vocabulary.
        line: the source, as it was given; words are what white space parts.
        tokens: the translation.
        pairs: (source piece, target piece), as `smoe_ds.decode.translator.Translator.align` gives them.

    Returns:
        (source word, target word), counted from 0, each pair once, by target word and then by source word. Pieces that
        are not part of the text, such as unknown ones, are left out.
    """
    source, spans = tokenizer.source_spans(tidy(line)[0])
    target, written = tokenizer.target_spans(tokens)
    source_words, target_words = words_of(source, spans), words_of(target, written)
    found = {(source_words[i], target_words[j]) for i, j in pairs}
    return sorted(((i, j) for i, j in found if i is not None and j is not None), key=lambda pair: (pair[1], pair[0]))


def words_of(text: str, spans: Sequence[Span | None]) -> list[int | None]:
    """The word that each piece lies in, or begins: a piece of white space alone goes with the word after it.

    Args:
        text: of the pieces.
        spans: first and last byte + 1 of each in UTF-8; None: of none.

    Returns:
        Numbers of words; None for a piece that lies in none.
    """
    word_of_byte: list[int | None] = []
    word, inside = -1, False
    for char in text:
        word, inside = word + (not char.isspace() and not inside), not char.isspace()
        word_of_byte += [word if inside else None] * len(char.encode())
    following: list[int | None] = [None] * (len(word_of_byte) + 1)  # the word at a byte, or the next one after it
    for place in reversed(range(len(word_of_byte))):
        here = word_of_byte[place]
        following[place] = following[place + 1] if here is None else here
    return [None if span is None else following[span[0]] for span in spans]
