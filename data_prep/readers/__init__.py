"""Readers of parallel text: the two sides of sentence pairs, in the order of the pair's name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from data_prep.readers.block import Block
from data_prep.readers.jsonl import read_jsonl
from data_prep.readers.mediawiki import read_mediawiki
from data_prep.readers.mo import read_mo
from data_prep.readers.notes import Notes
from data_prep.readers.po import read_po
from data_prep.readers.sides import Side, SidePair
from data_prep.readers.text_pair import read_text_pair
from data_prep.readers.tmx import read_tmx
from data_prep.readers.tsv import read_tsv
from data_prep.spec.sections import PairSpec
from data_prep.spec.sources import (
    JsonLinesSource,
    MediaWikiSource,
    MoSource,
    PoSource,
    Source,
    TextPairSource,
    TmxSource,
    TsvSource,
)

__all__ = ["Block", "Side", "SidePair", "read_source", "source_files"]

_PAIRS = 1024  # of a source that is read pair by pair, in a block


def source_files(source: Source) -> tuple[str, ...]:
    """The files of a source, as the specification writes them."""
    if isinstance(source, TextPairSource):
        return source.src, source.tgt
    if isinstance(source, TsvSource):
        return (source.tsv,)
    if isinstance(source, TmxSource):
        return (source.tmx,)
    if isinstance(source, JsonLinesSource):
        return (source.jsonl,)
    if isinstance(source, MediaWikiSource):
        return source.mediawiki.src, source.mediawiki.tgt
    return (source.mo,) if isinstance(source, MoSource) else (source.po,)


def read_source(
    source: Source, pair: PairSpec, key_language: str, base: Path, notes: Notes, *, refuse_invalid: bool
) -> Iterator[Block]:
    """Reads a source, many sentence pairs at a time.

    Args:
        source: what the specification says.
        pair: the pair it belongs to.
        key_language: language of gettext's message ids where the source does not say.
        base: folder that relative paths are relative to.
        notes: what was mended or is invalid, added to.
        refuse_invalid: refuse a file at its first line that is not UTF-8, instead of yielding it as unusable.

    Raises:
        DataError: a file is missing, damaged, in another encoding, or its sides do not match.
    """
    paths = [base / name for name in source_files(source)]
    if isinstance(source, TextPairSource):
        yield from read_text_pair(paths[0], paths[1], notes, refuse_invalid=refuse_invalid)
        return
    pairs = _pairs(source, pair, key_language, paths, notes, refuse_invalid=refuse_invalid)
    while some := list(islice(pairs, _PAIRS)):
        yield Block.of(some)


def _pairs(
    source: Source, pair: PairSpec, key_language: str, paths: list[Path], notes: Notes, *, refuse_invalid: bool
) -> Iterator[SidePair]:
    """The sentence pairs of a source that is not read by whole blocks."""
    if isinstance(source, TsvSource):
        yield from read_tsv(paths[0], source.columns, source.header, notes, refuse_invalid=refuse_invalid)
    elif isinstance(source, TmxSource):
        yield from read_tmx(paths[0], source.languages or pair.languages, notes, refuse_invalid=refuse_invalid)
    elif isinstance(source, JsonLinesSource):
        yield from read_jsonl(paths[0], source.keys or pair.languages, notes, refuse_invalid=refuse_invalid)
    elif isinstance(source, MediaWikiSource):
        yield from _stripped(read_mediawiki(paths[0], paths[1]), source.markup, "clean_mediawiki")
    elif isinstance(source, (MoSource, PoSource)):
        if isinstance(source, MoSource):
            messages = read_mo(paths[0], notes)
        else:
            messages = read_po(paths[0], notes, refuse_invalid=refuse_invalid)
        reverse = (source.msgid or key_language) != pair.languages[0]
        for first, second in _stripped(messages, source.markup, "clean_gettext"):
            yield (second, first) if reverse else (first, second)


def _stripped(pairs: Iterator[SidePair], markup: str, function: str) -> Iterator[SidePair]:
    """Sentence pairs with the catalog's markup taken out, if the specification says so."""
    if markup == "keep":
        yield from pairs
        return
    from data_prep.text import markup as module

    strip: Callable[[str], str] = getattr(module, function)
    for first, second in pairs:
        yield (
            strip(first) if isinstance(first, str) else first,
            strip(second) if isinstance(second, str) else second,
        )
