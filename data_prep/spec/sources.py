"""Where sentence pairs are read from: the kinds of sources of a specification, as typed sections."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator

from data_prep.spec.file_name import FileName
from smoe_ds.config.section import Section

KIND_OF_KEY = {
    "src": "text",
    "tgt": "text",
    "tsv": "tsv",
    "tmx": "tmx",
    "jsonl": "jsonl",
    "mo": "mo",
    "po": "po",
    "mediawiki": "mediawiki",
}


class TextPairSource(Section):
    """Two files, plain, .gz, .xz, .bz2 or .zst; line N of one is the translation of line N of the other."""

    src: FileName = Field(description="File of the pair's first language.")
    tgt: FileName = Field(description="File of the pair's second language.")


class TsvSource(Section):
    """One file, plain or compressed, a sentence pair a line, the columns divided by single tabs; no quoting."""

    tsv: FileName = Field(description="The file.")
    columns: list[int] | None = Field(
        None, description="Columns, from 0, of the pair's first and second language; null: exactly two columns."
    )
    header: bool = Field(False, description="The first line names the columns and is no sentence pair.")

    @field_validator("columns")
    @classmethod
    def _two_columns(cls, columns: list[int] | None) -> list[int] | None:
        if columns is not None and (len(columns) != 2 or min(columns) < 0 or columns[0] == columns[1]):
            raise ValueError(f"columns {columns} must be two different numbers from 0, e.g. [0, 1]")
        return columns


class TmxSource(Section):
    """A translation memory, plain or compressed; several variants in a unit give a pair each, markup is taken out."""

    tmx: FileName = Field(description="The file.")
    languages: list[str] | None = Field(
        None,
        description="The file's codes (xml:lang) of the pair's first and second language, regional variants included: "
        "en matches en-US, but in [zh, zh-TW] zh does not match zh-TW; null: the pair's own codes.",
    )

    @field_validator("languages")
    @classmethod
    def _two_languages(cls, languages: list[str] | None) -> list[str] | None:
        _two_different("languages", languages, "[en, nso]")
        if languages is not None and len({name.lower().replace("_", "-") for name in languages}) == 1:
            raise ValueError(f"languages {languages} are one tag in two spellings; they must differ, e.g. [en, nso]")
        return languages


class JsonLinesSource(Section):
    """One file, plain or compressed, with a JSON object a line."""

    jsonl: FileName = Field(description="The file.")
    keys: list[str] | None = Field(
        None,
        description="Keys of the pair's first and second language, a dot leading into an object: "
        "[translation.en, translation.nso]; null: the pair's own codes.",
    )

    @field_validator("keys")
    @classmethod
    def _two_keys(cls, keys: list[str] | None) -> list[str] | None:
        return _two_different("keys", keys, "[translation.en, translation.nso]")


def _two_different(name: str, values: list[str] | None, example: str) -> list[str] | None:
    if values is not None and (len(values) != 2 or values[0] == values[1] or not all(values)):
        raise ValueError(f"{name} {values} must be two different texts, e.g. {example}")
    return values


class MoSource(Section):
    """A compiled gettext catalog; plural forms give a pair each, contexts and untranslated messages are left out."""

    mo: FileName = Field(description="The file.")
    msgid: str | None = Field(None, description="Language of the message ids; null: the pivot, or the first language.")
    markup: Literal["strip", "keep"] = Field("strip", description="Take the catalog's markup out of the text, or not.")


class PoSource(Section):
    """A gettext catalog in source form; fuzzy, obsolete and untranslated messages are left out."""

    po: FileName = Field(description="The file.")
    msgid: str | None = Field(None, description="Language of the message ids; null: the pivot, or the first language.")
    markup: Literal["strip", "keep"] = Field("strip", description="Take the catalog's markup out of the text, or not.")


class MediaWikiFiles(Section):
    """The two files of a MediaWiki source."""

    src: FileName = Field(description="File of the pair's first language, e.g. i18n/en.json.")
    tgt: FileName = Field(description="File of the pair's second language, e.g. i18n/nso.json.")


class MediaWikiSource(Section):
    """Two MediaWiki message files (JSON objects), joined by key."""

    mediawiki: MediaWikiFiles
    markup: Literal["strip", "keep"] = Field("strip", description="Take the catalog's markup out of the text, or not.")


def _kind(value: Any) -> str | None:
    """The kind of source that a mapping describes, told by its keys."""
    if isinstance(value, Section):
        value = value.__class__.model_fields
    kinds = [KIND_OF_KEY[key] for key in value if key in KIND_OF_KEY] if hasattr(value, "__iter__") else []
    return kinds[0] if kinds else None


Source = Annotated[
    Annotated[TextPairSource, Tag("text")]
    | Annotated[TsvSource, Tag("tsv")]
    | Annotated[TmxSource, Tag("tmx")]
    | Annotated[JsonLinesSource, Tag("jsonl")]
    | Annotated[MoSource, Tag("mo")]
    | Annotated[PoSource, Tag("po")]
    | Annotated[MediaWikiSource, Tag("mediawiki")],
    Discriminator(
        _kind,
        custom_error_type="source_kind",
        custom_error_message="a source is {src: FILE, tgt: FILE}, {tsv: FILE}, {tmx: FILE}, {jsonl: FILE}, {mo: FILE}, "
        "{po: FILE} or {mediawiki: {src: FILE, tgt: FILE}}",
    ),
]
"""Where sentence pairs are read from."""

Sources = Annotated[list[Source], BeforeValidator(lambda value: [value] if isinstance(value, dict) else value)]
"""One source, or a list of sources read one after the other."""
