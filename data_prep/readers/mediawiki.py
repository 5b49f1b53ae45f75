"""MediaWiki message files: one JSON object per language, joined by key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field

from data_prep.readers.block import Block
from data_prep.readers.catalogs import Markup, stripped
from data_prep.readers.file_name import FileName
from data_prep.readers.sides import SidePair, side_of
from data_prep.readers.source import Reading, Source, in_blocks
from data_prep.text.markup import clean_mediawiki
from smoe_ds.config.section import Section
from smoe_ds.errors import DataError


class MediaWikiFiles(Section):
    """The two files of a MediaWiki source."""

    src: FileName = Field(description="File of the pair's first language, e.g. i18n/en.json.")
    tgt: FileName = Field(description="File of the pair's second language, e.g. i18n/nso.json.")


class MediaWikiSource(Source):
    """Two MediaWiki message files (JSON objects), joined by key."""

    mediawiki: MediaWikiFiles
    markup: Markup = "strip"

    def files(self) -> tuple[str, ...]:
        return self.mediawiki.src, self.mediawiki.tgt

    def blocks(self, paths: Sequence[Path], reading: Reading) -> Iterator[Block]:
        src, tgt = paths
        return in_blocks(stripped(read_mediawiki(src, tgt), self.markup, clean_mediawiki))


def read_mediawiki(src: Path, tgt: Path) -> Iterator[SidePair]:
    """Yields the messages that both files have, in the order of the first.

    Raises:
        DataError: a file is missing, not UTF-8, or no JSON object.
    """
    first, second = _messages(src), _messages(tgt)
    for key, text in first.items():
        if key in second:
            yield side_of(text), side_of(second[key])


def _messages(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8: byte offset {error.start}; convert the file to UTF-8") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: line {error.lineno}: not JSON ({error.msg}); expected an object of messages"
        ) from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: is a JSON {type(content).__name__}, expected an object of messages by key")
    return {key: text for key, text in content.items() if isinstance(text, str) and not key.startswith("@")}
