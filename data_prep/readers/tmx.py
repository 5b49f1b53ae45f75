"""Translation memories (TMX), read as a stream: memory does not grow with the file.

The XML parser is Python's expat, set up so that a file cannot do harm: declarations inside the file are refused, which
rules out entities that expand exponentially or name other files, and nothing outside the file is ever opened. Entities
that the file does not declare come to us by name: HTML's are read as their characters, others cost their unit.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from xml.parsers import expat

from pydantic import Field, field_validator

from data_prep.readers.block import Block
from data_prep.readers.compressed import open_bytes
from data_prep.readers.file_name import FileName
from data_prep.readers.notes import Notes
from data_prep.readers.sides import Side, SidePair, Unusable
from data_prep.readers.source import Reading, Source, in_blocks, two_different
from data_prep.readers.xml_text import XmlText
from data_prep.text.entities import named_character
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
        description="The codes (xml:lang) that the file uses for the first and second language. en also matches en-US, "
        "but zh not zh-TW in [zh, zh-TW]. null: the pair's own codes.",
    )

    @field_validator("languages")
    @classmethod
    def _two_languages(cls, languages: list[str] | None) -> list[str] | None:
        if languages is not None and len({"-".join(_subtags(name)) for name in languages}) == 1 < len(languages):
            raise ValueError(f"languages {languages} are one tag in two spellings; they must differ, e.g. [en, nso]")
        return two_different("languages", languages, "[en, nso]")

    def files(self) -> tuple[str, ...]:
        return (self.tmx,)

    def blocks(self, paths: Sequence[Path], reading: Reading) -> Iterator[Block]:
        languages = self.languages or reading.languages
        return in_blocks(read_tmx(paths[0], languages, reading.notes, refuse_invalid=reading.refuse_invalid))


def read_tmx(path: Path, languages: Sequence[str], notes: Notes, *, refuse_invalid: bool) -> Iterator[SidePair]:
    """Yields the sentence pairs of every unit that has both languages.

    A language matches its regional variants (``en``: ``en-US``, ``EN_gb``), but not the other way round, and never one
    that the other language names more closely (``zh`` and ``zh-TW``). Where a unit has several variants of a language,
    each of them goes with each of the other language's. Inline markup is taken out: codes with their content, a
    placeholder leaving a space; highlighted and unknown elements leave their text. A unit with a character that XML
    forbids is unusable, and so is one with an entity in its text that neither XML nor HTML knows, and one with bytes
    that are not UTF-8 where the file should be; a variant without a segment has an empty one.

    Args:
        path: the file, plain or compressed.
        languages: the pair's languages as the file's ``xml:lang`` writes them.
        notes: the first unit of each kind that is unusable, and the number of HTML's entities, added to.
        refuse_invalid: refuse a file with bytes that are not UTF-8, instead of yielding those units as unusable.

    Raises:
        DataError: the file cannot be read, is no well-formed XML, has declarations of its own, or no unit in both
            languages; or most of its units that are not ASCII are not in its encoding.
    """
    with open_bytes(path) as file:
        chunk = file.read(_CHUNK)
        parser = _Parser(path, languages, XmlText(chunk[:1024]), refuse_invalid=refuse_invalid)
        while chunk:
            parser.feed(chunk)
            yield from parser.take()
            chunk = file.read(_CHUNK)
    parser.finish()
    yield from parser.take()
    if parser.num_html_entities:
        notes.counts["html_entities"] += parser.num_html_entities
    notes.places.extend(f"{path.name}: first {what}" for what in parser.first.values())
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


@lru_cache(maxsize=1024)  # a file has few tags and many variants
def sides_of_tag(tag: str, languages: tuple[str, ...]) -> list[int]:
    """Which of the two sides a variant belongs to: of two languages that it matches, the one that says more."""
    chosen = [side for side, language in enumerate(languages) if matches(tag, language)]
    subtags = _subtags(tag)
    for side, language in enumerate(languages):
        closer = set(_subtags(languages[1 - side])) < set(_subtags(language)) <= set(subtags)
        if closer and 1 - side in chosen:  # zh-TW says more than zh, of zh-TW and of zh-Hant-TW
            return [side]
    return chosen


def _subtags(tag: str) -> list[str]:
    return tag.lower().replace("_", "-").split("-")


class _Parser:
    """Collects the sentence pairs that come up while the file is fed.

    Attributes:
        num_matching: units so far that have both languages.
        seen: variants so far by their language tag.
        first: by kind, the first thing that is odd, and its line.
        num_html_entities: entities of HTML so far in the text of both languages.
    """

    def __init__(self, path: Path, languages: Sequence[str], text: XmlText, *, refuse_invalid: bool) -> None:
        self.num_matching = 0
        self.seen: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self.num_html_entities = 0
        self._readable, self._refuse_invalid = text, refuse_invalid
        self._num_invalid = self._num_non_ascii = 0  # units
        self._unit_begin = self._unit_line = 0
        self._has_segment = False
        self._path, self._languages = path, tuple(languages)
        self._pairs: deque[SidePair] = deque()
        self._elements: list[str] = []
        self._unit: tuple[list[Side], list[Side]] | None = None
        self._sides: list[list[Side]] = []  # of the unit, those that the variant being read belongs to
        self._text: list[str] | None = None
        self._unknown: str | None = None  # entity in the unit
        self._length = self._hidden = self._fed = 0
        self._expat = parser = expat.ParserCreate(text.encoding)
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.UseForeignDTD(True)  # there might be declarations elsewhere, so an unknown entity is no error
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._doctype
        parser.SkippedEntityHandler = self._skipped

    def feed(self, data: bytes) -> None:
        """Parses a piece of the file."""
        readable = self._readable.feed(data)
        self._fed += len(readable)
        self._parse(readable, False)
        if self._fed - self._expat.CurrentByteIndex > MAX_TOKEN_BYTES:
            raise self._error(
                f"a tag or comment of more than {MAX_TOKEN_BYTES >> 20} MiB", "it is not a translation memory"
            )

    def finish(self) -> None:
        """Parses the end of the file."""
        self._parse(self._readable.feed(b"", final=True), True)
        if self._num_invalid > 1 and 2 * self._num_invalid > self._num_non_ascii:
            raise DataError(
                f"{self._path}: not UTF-8: {self._num_invalid} of {self._num_non_ascii} units with non-ASCII bytes are "
                f"invalid; convert the file to UTF-8, or declare its encoding in its first line"
            )

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
        if is_parameter or self._text is None or self._hidden:
            return
        character = named_character(name)
        if character is None:
            self._unknown = self._unknown or name
        else:
            self.num_html_entities += 1
            self._characters(character)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._elements and name != "tmx":
            raise self._error(f"root element is {name}", "expected tmx; it is not a translation memory")
        if len(self._elements) >= MAX_DEPTH:
            raise self._error(f"more than {MAX_DEPTH} nested elements", "it is not a translation memory")
        self._elements.append(name)
        if self._text is not None:
            self._hidden += name in _CODE_ELEMENTS | _PLACEHOLDERS
        elif name == "tu":
            self._unit, self._unknown = ([], []), None
            self._unit_begin, self._unit_line = self._expat.CurrentByteIndex, self._expat.CurrentLineNumber
        elif name == "tuv" and self._unit is not None:
            self._start_variant(attributes)
        elif name == "seg" and self._sides:
            self._text, self._length, self._has_segment = [], 0, True

    def _start_variant(self, attributes: dict[str, str]) -> None:
        tag = attributes.get("xml:lang") or attributes.get("lang")  # TMX 1.4, and before
        if tag is None:
            raise self._error("tuv without xml:lang", "add the language")
        if tag in self.seen or len(self.seen) < 1000:
            self.seen[tag] += 1
        assert self._unit is not None
        self._sides = [self._unit[side] for side in sides_of_tag(tag, self._languages)]
        self._has_segment = False
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
            if self._sides and not self._has_segment:
                self.first.setdefault("segment", f"variant without <seg>: line {self._expat.CurrentLineNumber}")
            for side in self._sides if not self._has_segment else ():
                side.append("")
            self._sides = []
        elif name == "tu" and self._unit is not None:
            self._end_unit(*self._unit)
            self._unit = None

    def _end_unit(self, first: list[Side], second: list[Side]) -> None:
        problem = self._problem_of_unit()
        if not (first and second):
            return
        self.num_matching += 1
        self._num_non_ascii += problem is Unusable.INVALID_UTF8 or not all(
            text.isascii() for text in [*first, *second] if isinstance(text, str)
        )
        if problem is None:
            self._pairs.extend((one, other) for one in first for other in second)
            return
        self._pairs.append((problem, problem))
        if problem is Unusable.INVALID_UTF8:
            self._num_invalid += 1
            what = "unit that is not UTF-8"
            if self._refuse_invalid:
                raise DataError(
                    f"{self._path}: not UTF-8: the unit at line {self._unit_line}; convert the file, or set "
                    "clean.invalid_utf8 to drop"
                )
        elif problem is Unusable.UNKNOWN_ENTITY:
            what = f"unit with an unknown entity, &{self._unknown};"
        else:
            what = "unit with a character that XML forbids"
        self.first.setdefault(problem.value, f"{what}: line {self._unit_line}")

    def _problem_of_unit(self) -> Unusable | None:
        """What makes the unit that ends here unusable."""
        found = Unusable.UNKNOWN_ENTITY if self._unknown else None
        kinds = ((self._readable.forbidden, Unusable.FORBIDDEN), (self._readable.invalid, Unusable.INVALID_UTF8))
        for offsets, problem in kinds:
            while offsets and offsets[0] < self._expat.CurrentByteIndex:
                if offsets.popleft() >= self._unit_begin:
                    found = problem
        return found

    def _characters(self, text: str) -> None:
        if self._text is None or self._hidden:
            return
        self._length += len(text)
        if self._length <= MAX_TEXT:
            self._text.append(text)
