"""Translation memories (TMX), read as a stream: memory does not grow with the file.

The XML parser is Python's expat, set up so that a file cannot do harm: declarations inside the file are refused, which
rules out entities that expand exponentially or name other files, and nothing outside the file is ever opened.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.parsers import expat

from pydantic import Field, field_validator

from data_prep.readers.block import Block
from data_prep.readers.compressed import open_bytes
from data_prep.readers.file_name import FileName
from data_prep.readers.sides import Side, SidePair, Unusable
from data_prep.readers.source import Reading, Source, in_blocks, two_different
from smoe_ds.errors import DataError

MAX_TEXT = 1 << 20  # characters of a segment that are kept; a longer one is too long for any filter
MAX_VARIANTS = 100  # of one language in a unit
MAX_DEPTH = 100  # of elements within elements
MAX_TOKEN_BYTES = 16 << 20  # of a tag or comment, which the parser holds in memory
_CHUNK = 1 << 16
_CODE_ELEMENTS = {"bpt", "ept", "it"}  # the native code of a paired tag, in the middle of words too
_PLACEHOLDERS = {"ph", "ut"}  # a code that stands alone: a line break, an image


class TmxSource(Source):
    """A translation memory, plain or compressed. Each variant in a unit gives a pair; markup is removed."""

    tmx: FileName = Field(description="The file.")
    languages: list[str] | None = Field(
        None,
        description="The codes (xml:lang) that the file uses for the first and second language. en also matches en-US. "
        "null: the pair's own codes.",
    )

    @field_validator("languages")
    @classmethod
    def _two_languages(cls, languages: list[str] | None) -> list[str] | None:
        return two_different("languages", languages, "[en, nso]")

    def files(self) -> tuple[str, ...]:
        return (self.tmx,)

    def blocks(self, paths: Sequence[Path], reading: Reading) -> Iterator[Block]:
        return in_blocks(read_tmx(paths[0], self.languages or reading.languages))


def read_tmx(path: Path, languages: Sequence[str]) -> Iterator[SidePair]:
    """Yields the sentence pairs of every unit that has both languages.

    A language matches its regional variants (``en``: ``en-US``, ``EN_gb``), but not the other way round. Where a unit
    has several variants of a language, each of them goes with each of the other language's. Inline markup is taken
    out: codes with their content, a placeholder leaving a space; highlighted and unknown elements leave their text.

    Args:
        path: the file, plain or compressed.
        languages: the pair's languages as the file's ``xml:lang`` writes them.

    Raises:
        DataError: the file cannot be read, is no well-formed XML, has declarations of its own, or no unit in both
            languages.
    """
    parser = _Parser(path, languages)
    with open_bytes(path) as file:
        while chunk := file.read(_CHUNK):
            parser.feed(chunk)
            yield from parser.take()
    parser.finish()
    yield from parser.take()
    if not parser.num_matching:
        seen = ", ".join(f"{name} ({number})" for name, number in parser.seen.most_common(10)) or "none"
        raise DataError(
            f"{path}: no unit has both {languages[0]} and {languages[1]}; variants by xml:lang: {seen}; "
            "set 'languages' to the file's codes"
        )


def matches(tag: str, language: str) -> bool:
    """Whether a language tag names the language or a variant of it; case does not matter, nor ``_`` for ``-``."""
    tag, language = (name.lower().replace("_", "-") for name in (tag, language))
    return tag == language or tag.startswith(language + "-")


class _Parser:
    """Collects the sentence pairs that come up while the file is fed.

    Attributes:
        num_matching: units so far that have both languages.
        seen: variants so far by their language tag.
    """

    def __init__(self, path: Path, languages: Sequence[str]) -> None:
        self.num_matching = 0
        self.seen: Counter[str] = Counter()
        self._path, self._languages = path, languages
        self._pairs: deque[SidePair] = deque()
        self._elements: list[str] = []
        self._unit: tuple[list[Side], list[Side]] | None = None
        self._sides: list[list[Side]] = []  # of the unit, those that the variant being read belongs to
        self._text: list[str] | None = None
        self._length = self._hidden = self._fed = 0
        self._expat = parser = expat.ParserCreate()
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._doctype
        parser.SkippedEntityHandler = self._skipped

    def feed(self, data: bytes) -> None:
        """Parses a piece of the file."""
        self._parse(data, False)
        self._fed += len(data)
        if self._fed - self._expat.CurrentByteIndex > MAX_TOKEN_BYTES:
            raise self._error(
                f"a tag or comment of more than {MAX_TOKEN_BYTES >> 20} MiB", "it is not a translation memory"
            )

    def finish(self) -> None:
        """Parses the end of the file."""
        self._parse(b"", True)

    def take(self) -> Iterator[SidePair]:
        """Yields the pairs of the units completed since."""
        while self._pairs:
            yield self._pairs.popleft()

    def _parse(self, data: bytes, final: bool) -> None:
        try:
            self._expat.Parse(data, final)
        except expat.ExpatError as error:
            raise self._error(
                f"not well-formed XML ({expat.ErrorString(error.code)})", "fix or export it again"
            ) from error
        except (LookupError, ValueError) as error:  # an encoding that Python does not know, or of several bytes
            raise self._error(f"cannot be decoded ({error})", "convert the file to UTF-8") from error

    def _error(self, problem: str, remedy: str) -> DataError:
        place = f"line {self._expat.CurrentLineNumber}, column {self._expat.CurrentColumnNumber + 1}"
        return DataError(f"{self._path}: {place}: {problem}; {remedy}")

    def _doctype(self, name: str, system: str | None, public: str | None, has_declarations: int) -> None:
        if has_declarations:
            raise self._error("<!DOCTYPE ... [...]> declares entities or elements", "remove the declarations")

    def _skipped(self, name: str, is_parameter: int) -> None:
        if not is_parameter:
            raise self._error(f"unknown entity &{name};", "replace it by its text")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._elements and name != "tmx":
            raise self._error(f"root element is {name}", "expected tmx; it is not a translation memory")
        if len(self._elements) >= MAX_DEPTH:
            raise self._error(f"more than {MAX_DEPTH} nested elements", "it is not a translation memory")
        self._elements.append(name)
        if self._text is not None:
            self._hidden += name in _CODE_ELEMENTS | _PLACEHOLDERS
        elif name == "tu":
            self._unit = ([], [])
        elif name == "tuv" and self._unit is not None:
            self._start_variant(attributes)
        elif name == "seg" and self._sides:
            self._text, self._length = [], 0

    def _start_variant(self, attributes: dict[str, str]) -> None:
        tag = attributes.get("xml:lang") or attributes.get("lang")  # TMX 1.4, and before
        if tag is None:
            raise self._error("tuv without xml:lang", "add the language")
        if tag in self.seen or len(self.seen) < 1000:
            self.seen[tag] += 1
        assert self._unit is not None
        chosen = [number for number, language in enumerate(self._languages) if matches(tag, language)]
        self._sides = [self._unit[number] for number in chosen]
        if any(len(side) >= MAX_VARIANTS for side in self._sides):
            raise self._error(f"more than {MAX_VARIANTS} variants in {tag} in one unit", "split the unit")

    def _end(self, name: str) -> None:
        self._elements.pop()
        if self._text is not None and name == "seg" and "seg" not in self._elements:
            text: Side = "".join(self._text) if self._length <= MAX_TEXT else Unusable.TOO_LONG
            for side in self._sides:
                side.append(text)
            self._text, self._hidden = None, 0
        elif self._text is not None and name in _CODE_ELEMENTS | _PLACEHOLDERS:
            self._hidden -= 1
            if name in _PLACEHOLDERS:
                self._characters(" ")
        elif name == "tuv":
            self._sides = []
        elif name == "tu" and self._unit is not None:
            first, second = self._unit
            self.num_matching += bool(first and second)
            self._pairs.extend((one, other) for one in first for other in second)
            self._unit = None

    def _characters(self, text: str) -> None:
        if self._text is None or self._hidden:
            return
        self._length += len(text)
        if self._length <= MAX_TEXT:
            self._text.append(text)
