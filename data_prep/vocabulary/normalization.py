"""What a vocabulary changes in text before it looks for pieces: the rule ``nfc``, which loses nothing a reader sees.

The rule is part of the model file, as a table of strings to replace. Whatever program loads the file applies it. At
each place of a text the longest string of the table that begins there is replaced.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import permutations
from typing import Any

from smoe_ds.data.tidy import OWN_SHAPE, REMOVED

NFC = "nfc"

_SPACE = "\u2581"
"""SentencePiece's sign for a space; where text holds the sign itself, it would come back as a space."""
_STAND_IN = "\ufdd0"
"""A code point that is no character: the pieces hold it in place of the sign, and decoding puts the sign back."""

_BMP = range(1, 0x10000)
_HANGUL = range(0xAC00, 0xD7A4)
_ABOVE, _BELOW = "\u0300\u0301\u0302\u0303\u0304\u030c", "\u0323\u0328\u0329\u0331"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_MARKS: Sequence[Sequence[str]] = (  # that text of a script may hold two of, in any order
    (*_ABOVE, *_BELOW),
    [*map(chr, range(0x05B0, 0x05C8))],  # Hebrew
    [*map(chr, range(0x064B, 0x0656)), "\u0670"],  # Arabic
    [*map(chr, range(0x0E38, 0x0E4C))],  # Thai
    [*map(chr, range(0x0EB8, 0x0ECC))],  # Lao
)


def training_options(rule: str) -> dict[str, Any]:
    """Options of SentencePiece's trainer that make a model with a rule, ``nfc`` or one of SentencePiece's."""
    if rule != NFC:
        return {"normalization_rule_name": rule}
    import sentencepiece

    spec = _compiled(nfc_rule()) + _field(1, NFC.encode())  # the name, which a reader of the model finds there
    return {"normalizer": sentencepiece.SentencePieceNormalizer(normalizer_spec=spec)}


def completed(model: bytes, rule: str) -> bytes:
    """A trained model with what decoding has to undo of a rule."""
    if rule != NFC:
        return model
    return model + _field(5, _compiled({_STAND_IN: _SPACE}, tidies_spaces=False))  # ModelProto.denormalizer_spec


def nfc_rule() -> dict[str, str]:
    """The rule ``nfc``: strings and what each becomes.

    White space becomes a space (SentencePiece itself makes one of several, and none at the ends); control characters,
    byte order marks and noncharacters vanish, all as in `smoe_ds.data.tidy.tidy`. Canonically equivalent
    spellings become the composed one: of every character of the Basic Multilingual Plane with a composed form, of
    Latin letters with one mark above and one below, and of two marks of a script in each other's place.
    """
    rule = {character: " " for character in map(chr, _BMP) if character.isspace() and character != " "}
    noncharacters = (chr(plane + last) for plane in range(0x1FFFF, 0x110000, 0x10000) for last in (-1, 0))
    rule |= {character: "" for character in (*map(chr, _BMP), *noncharacters)
             if REMOVED.match(character) and not "\ud800" <= character <= "\udfff"}  # fmt: skip
    return rule | {_SPACE: _STAND_IN} | _compositions()


def _compositions() -> dict[str, str]:
    by_spelling: dict[str, list[str]] = defaultdict(list)  # the characters of each full decomposition
    for character in filter(_decomposes, map(chr, _BMP)):
        by_spelling[unicodedata.normalize("NFD", character)].append(character)
    marked = {unicodedata.normalize("NFD", letter + above + below)
              for letter in _LETTERS for above in _ABOVE for below in _BELOW}  # fmt: skip
    swapped = {unicodedata.normalize("NFD", one + other)
               for marks in _MARKS for one in marks for other in marks
               if 0 < unicodedata.combining(one) < unicodedata.combining(other)}  # fmt: skip
    rule: dict[str, str] = {}
    for decomposed in sorted({*by_spelling, *marked, *swapped}):
        composed = unicodedata.normalize("NFC", decomposed)
        rule |= {spelling: composed for spelling in _spellings(decomposed, by_spelling) if spelling != composed}
    return rule


def _decomposes(character: str) -> bool:
    decomposition = unicodedata.decomposition(character)
    canonical = bool(decomposition) and not decomposition.startswith("<")
    return (canonical or ord(character) in _HANGUL) and not character.isspace() and not OWN_SHAPE.match(character)


def _spellings(decomposed: str, by_spelling: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """All strings that are canonically equivalent to a fully decomposed one; some of them twice."""
    for order in permutations(decomposed):
        marks = "".join(order)
        if unicodedata.normalize("NFD", marks) != decomposed:
            continue
        yield marks
        for length in range(1, len(marks) + 1):
            for character in by_spelling.get(unicodedata.normalize("NFD", marks[:length]), ()):
                yield character + marks[length:]


def _compiled(rule: Mapping[str, str], *, tidies_spaces: bool = True) -> bytes:
    """A rule as SentencePiece's serialised NormalizerSpec; of one for encoding, spaces are part."""
    import sentencepiece

    sentencepiece.set_min_log_level(2)
    normalizer = sentencepiece.SentencePieceNormalizer(
        norm_map=sorted(rule.items()),
        add_dummy_prefix=tidies_spaces,
        escape_whitespaces=tidies_spaces,
        remove_extra_whitespaces=tidies_spaces,
    )
    spec: bytes = normalizer.serialized_normalizer_spec()
    return spec


def _field(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer that holds bytes; appended to a serialised message, it is part of it."""
    length, varint = len(content), b""
    while length > 0x7F:
        varint += bytes([length & 0x7F | 0x80])
        length >>= 7
    return bytes([number << 3 | 2]) + varint + bytes([length]) + content
