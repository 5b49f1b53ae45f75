"""What every kind of source has in common: keys in a specification, files, and sentence pairs read from them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from data_prep.readers.block import Block
from data_prep.readers.notes import Notes
from data_prep.readers.sides import SidePair
from smoe_ds.config.section import Section

_PAIRS = 1024  # of a source that is read pair by pair, in a block


@dataclass(frozen=True)
class Reading:
    """What a source is read for.

    Attributes:
        languages: the pair's languages, in the order of its name.
        key_language: language of gettext's message ids where the source does not say.
        notes: what was mended or is invalid, added to.
        refuse_invalid: refuse a file at its first line that is not UTF-8, instead of yielding it as unusable.
    """

    languages: tuple[str, str]
    key_language: str
    notes: Notes
    refuse_invalid: bool


class Source(Section):
    """Where sentence pairs are read from. Its required keys, which no other kind has, tell its kind."""

    @abstractmethod
    def files(self) -> tuple[str, ...]:
        """Its files, as the specification writes them."""

    @abstractmethod
    def blocks(self, paths: Sequence[Path], reading: Reading) -> Iterator[Block]:
        """Reads its files, many sentence pairs at a time.

        Args:
            paths: where they are, in the order of `files`.
            reading: what for.

        Raises:
            DataError: a file is missing, damaged, in another encoding, or its sides do not match.
        """

    def check(self, languages: tuple[str, str]) -> None:
        """Checks what the source says of languages.

        Raises:
            ValueError: it names one that the pair lacks.
        """


def read_source(source: Source, base: Path, reading: Reading) -> Iterator[Block]:
    """Reads a source; see `Source.blocks`.

    Args:
        source: what the specification says.
        base: folder that relative paths are relative to.
        reading: what for.
    """
    return source.blocks([base / name for name in source.files()], reading)


def in_blocks(pairs: Iterable[SidePair]) -> Iterator[Block]:
    """Sentence pairs that come one by one, many at a time."""
    waiting = iter(pairs)
    while some := list(islice(waiting, _PAIRS)):
        yield Block.of(some)


def two_different(name: str, values: list[str] | None, example: str) -> list[str] | None:
    """Checks a key that takes a text for either side of the pair.

    Raises:
        ValueError: there are not two, or they are equal or empty.
    """
    if values is not None and (len(values) != 2 or values[0] == values[1] or not all(values)):
        raise ValueError(f"{name} {values} must be two different texts, e.g. {example}")
    return values
