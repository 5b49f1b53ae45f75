"""Reads a text of a pair and cuts it into pieces; cleans a piece. Each is one task for one process.

One process reads a text from its beginning to its end, which compressed files and misaligned ones ask for, and stores
what it reads piece by piece; any process cleans a piece. A text of one piece is cleaned at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.cleaning.clean import Cleaner
from data_prep.cleaning.spool import Spool, place_of
from data_prep.cleaning.swapped import Sides, compare_sides
from data_prep.readers.block import Block, equal_blocks
from data_prep.readers.notes import Notes
from data_prep.readers.source import Reading, Source, read_source
from data_prep.spec.sections import PairSpec, Spec
from data_prep.stages.collector import collector_paused
from data_prep.stages.pieces import Pieces, fingerprint
from smoe_ds.errors import DataError

_LOOKED_AT = 20_000


class TextError(DataError):
    """A text cannot be read; the message names its pair and split."""


@dataclass(frozen=True)
class Text:
    """The text of a pair for one split, and how it is cut.

    Attributes:
        spec: the specification.
        pair: the pair.
        split: ``train``, ``valid`` or ``test``, which the pair has sources for.
        base: folder that relative paths are relative to.
        piece_size: sentence pairs read per piece.
        made_from: fingerprint of its sources with the content of their files, and of the cleaning.
    """

    spec: Spec
    pair: PairSpec
    split: str
    base: Path
    piece_size: int
    made_from: str

    @classmethod
    def of(
        cls, spec: Spec, pair: PairSpec, split: str, base: Path, piece_size: int, inputs: dict[str, dict[str, Any]]
    ) -> Text:
        """The text of a split of a pair; ``inputs`` are the entries of its files by name."""
        files = [inputs[name] for name in text_files(pair, split)]
        cleaning = [spec.key_language(pair), spec.clean.model_dump(mode="json"), spec.seed]
        sources = [source.model_dump(mode="json") for source in getattr(pair, split)]
        return cls(
            spec, pair, split, base, piece_size, fingerprint(pair.pair, split, sources, files, cleaning, piece_size)
        )

    @property
    def name(self) -> str:
        """Name of the text, unique in the specification."""
        return f"{self.pair.pair}.{self.split}"

    def piece(self, number: int) -> str:
        """Name of a piece of cleaned text."""
        return f"clean/{self.name}/{number:05d}"

    def raw(self, number: int) -> str:
        """Name of a piece of text as it was read."""
        return f"raw/{self.name}/{number:05d}"


def text_files(pair: PairSpec, split: str) -> list[str]:
    """The files of a text, as the specification writes them."""
    return [name for source in getattr(pair, split) or [] for name in source.files()]


@collector_paused()
def read_text(pieces: Pieces, text: Text) -> dict[str, Any]:
    """Reads a text, unless all its pieces are finished.

    Args:
        pieces: where the pieces are.
        text: the text.

    Returns:
        ``pieces``: their number; ``notes``: what the readers noticed; ``raw``: pieces stored here, to be cleaned.

    Raises:
        TextError: a source cannot be read.
    """
    name = f"read/{text.name}"
    record = pieces.find(name, text.made_from)
    if record is not None and all(pieces.find(text.piece(k), text.made_from) for k in range(record["pieces"])):
        return record | {"raw": []}
    notes, raw, number = Notes(), [], 0
    blocks = equal_blocks(_blocks(text, notes), text.piece_size)
    following = next(blocks, None)
    while following is not None or not number:
        current, following = following or Block.of([]), next(blocks, None)
        if pieces.find(text.piece(number), text.made_from) is None:
            if number or following is not None:
                pieces.commit_data(text.raw(number), text.made_from, _raw_files(text, number, current), None)
                raw.append(number)
            else:
                _clean(pieces, text, 0, current)
        number += 1
    record = {"pieces": number, "notes": {"noticed": dict(+notes.counts), "places": notes.places}}
    pieces.commit_data(name, text.made_from, {}, record)
    return record | {"raw": raw}


def try_to_read(pieces: Pieces, text: Text) -> dict[str, Any]:
    """`read_text`; where the text cannot be read, ``error`` says why, and the other texts can still be looked at."""
    try:
        return read_text(pieces, text)
    except TextError as error:
        return {"error": str(error)}


def _blocks(text: Text, notes: Notes) -> Iterator[Block]:
    sources: list[Source] = getattr(text.pair, text.split)
    refuse = text.spec.clean.invalid_utf8 == "refuse"
    reading = Reading(text.pair.languages, text.spec.key_language(text.pair), notes, refuse)
    for source in sources:
        try:
            yield from read_source(source, text.base, reading)
        except DataError as error:
            raise TextError(f"{text.pair.pair} {text.split}: {error}") from error


def _raw_files(text: Text, number: int, block: Block) -> dict[str, bytes]:
    """The sides of a piece as files, by their places."""
    return {f"{text.raw(number)}.src": block.src, f"{text.raw(number)}.tgt": block.tgt}


@collector_paused()
def clean_raw(pieces: Pieces, text: Text, number: int) -> None:
    """Cleans a piece that `read_text` stored, and removes it as it was."""
    src, tgt = ((pieces.root / f"{text.raw(number)}.{side}").read_bytes() for side in ("src", "tgt"))
    _clean(pieces, text, number, Block(src, tgt, src.count(b"\n")))
    pieces.remove(text.raw(number))


def _clean(pieces: Pieces, text: Text, number: int, block: Block) -> None:
    """Cleans sentence pairs and commits them as a piece; its result are their number and the counts."""
    spec, languages = text.spec, text.pair.languages
    key_side = languages.index(spec.key_language(text.pair))
    cleaner = Cleaner(spec.clean, languages, key_side, held_out=text.split != "train", seed=spec.seed)
    cleaned = cleaner(block)
    contents = {
        f"{languages[0]}.txt": b"\n".join([*cleaned.lines[0], b""]),
        f"{languages[1]}.txt": b"\n".join([*cleaned.lines[1], b""]),
        "hashes": cleaned.hashes.astype("<u8", copy=False).tobytes(),
        "scripts": cleaned.scripts.tobytes(),
    }
    files = {place_of(text.pair.pair, text.split, number, suffix): data for suffix, data in contents.items()}
    result = {"kept": len(cleaned.hashes), "counts": cleaner.counts()}
    pieces.commit_data(text.piece(number), text.made_from, files, result)


@collector_paused()
def notice(spool: Spool) -> Sides:
    """Compares the sides of a text, of at most 20,000 pairs, evenly spread over it; ``swapped`` is counted for all."""
    length = sum(spool.sizes)
    stride = max(1, -(-length // _LOOKED_AT))
    mask = np.zeros(length, bool)
    mask[::stride] = True
    src, tgt = (b"\n".join([*spool.lines(side, mask), b""]) for side in (0, 1))
    sides = compare_sides(src, tgt)
    return replace(sides, swapped=stride * sides.swapped)
