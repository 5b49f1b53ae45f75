"""The specification of a corpus: what `python -m data_prep SPEC.yaml` reads, as typed sections."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from smoe_ds.config.section import Section

LANGUAGE = re.compile(r"[A-Za-z][A-Za-z0-9_]{1,31}")
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

    src: str = Field(description="File of the pair's first language.")
    tgt: str = Field(description="File of the pair's second language.")


class TsvSource(Section):
    """One file, plain or compressed, a sentence pair a line, the columns divided by single tabs; no quoting."""

    tsv: str = Field(description="The file.")
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

    tmx: str = Field(description="The file.")
    languages: list[str] | None = Field(
        None,
        description="The file's codes (xml:lang) of the pair's first and second language, regional variants included: "
        "en matches en-US; null: the pair's own codes.",
    )

    @field_validator("languages")
    @classmethod
    def _two_languages(cls, languages: list[str] | None) -> list[str] | None:
        return _two_different("languages", languages, "[en, nso]")


class JsonLinesSource(Section):
    """One file, plain or compressed, with a JSON object a line."""

    jsonl: str = Field(description="The file.")
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

    mo: str = Field(description="The file.")
    msgid: str | None = Field(None, description="Language of the message ids; null: the pivot, or the first language.")
    markup: Literal["strip", "keep"] = Field("strip", description="Take the catalog's markup out of the text, or not.")


class PoSource(Section):
    """A gettext catalog in source form; fuzzy, obsolete and untranslated messages are left out."""

    po: str = Field(description="The file.")
    msgid: str | None = Field(None, description="Language of the message ids; null: the pivot, or the first language.")
    markup: Literal["strip", "keep"] = Field("strip", description="Take the catalog's markup out of the text, or not.")


class MediaWikiFiles(Section):
    """The two files of a MediaWiki source."""

    src: str = Field(description="File of the pair's first language, e.g. i18n/en.json.")
    tgt: str = Field(description="File of the pair's second language, e.g. i18n/nso.json.")


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


class PairSpec(Section):
    """A pair of languages and where its sentences are."""

    pair: str = Field(description='The two languages, e.g. "eng-nso"; every src and tgt below follows this order.')
    train: Sources = Field(min_length=1, description="Training text.")
    valid: Sources | None = Field(
        None, min_length=1, description="Validation text; null: drawn from the training text."
    )
    test: Sources | None = Field(None, min_length=1, description="Test text; null: drawn from the training text.")

    @field_validator("pair")
    @classmethod
    def _two_languages(cls, pair: str) -> str:
        languages = pair.split("-")
        if len(languages) != 2 or not all(LANGUAGE.fullmatch(language) for language in languages):
            raise ValueError(
                f"{pair!r} is not two language codes joined by '-', e.g. eng-nso; inside a code write _, as in zho_Hant"
            )
        if languages[0] == languages[1]:
            raise ValueError(f"{pair!r} pairs a language with itself")
        return pair

    @property
    def languages(self) -> tuple[str, str]:
        """The two language codes, in the order of the pair's name."""
        src, tgt = self.pair.split("-")
        return src, tgt

    @model_validator(mode="after")
    def _msgid_is_a_side(self) -> PairSpec:
        for source in [*self.train, *(self.valid or []), *(self.test or [])]:
            if isinstance(source, (MoSource, PoSource)) and source.msgid not in (None, *self.languages):
                raise ValueError(f"msgid {source.msgid!r} is no language of the pair {self.pair}")
        return self


class HeldOut(Section):
    """Held-out sentences of pairs that bring no validation or test text of their own.

    They are drawn by a hash of the normalised sentence in the pivot language (without a pivot: in the pair's first
    language), so that the pairs draw the same sentences where they can.
    """

    valid: int = Field(100, ge=0, description="Validation sentences drawn per pair.")
    test: int = Field(200, ge=0, description="Test sentences drawn per pair.")
    max_fraction: float = Field(
        0.05, ge=0, le=0.5, description="Most of a pair's sentences that may be drawn, validation and test together."
    )


class Clean(Section):
    """Filters. Each counts what it drops; the counts are in the report and in manifest.json.

    Validation and test text that the specification gives is never thinned out: only pairs that cannot be used at all
    are dropped from it (empty, invalid UTF-8, longer than the maximum lengths).
    """

    min_words: int = Field(1, ge=1, description="Fewest words on the pivot's side (no pivot: the first language).")
    max_words: int = Field(250, ge=1, description="Most words (runs between white space) on either side.")
    max_characters: int = Field(2000, ge=1, description="Most characters on either side.")
    max_ratio: float | None = Field(
        6.0, gt=1, description="Most characters of the longer side over the shorter one; null: off."
    )
    max_pieces: int = Field(
        510, ge=1, description="Most SentencePiece pieces on either side; two less than the model's max_positions."
    )
    duplicates: Literal["drop", "keep"] = Field("drop", description="Pairs that occurred before in the same pair.")
    copies: Literal["drop", "keep"] = Field("keep", description="Pairs whose two sides are equal.")
    wrong_script: Literal["drop", "keep"] = Field(
        "keep", description="Pairs with a side in another script than most of that language's text in the pair."
    )
    invalid_utf8: Literal["drop", "refuse"] = Field(
        "drop",
        description="Lines that are not UTF-8: dropped with their counterpart, or the file refused. A file in which "
        "most of the lines with non-ASCII bytes are invalid is refused in any case: it is in another encoding.",
    )


class SentencePieceSpec(Section):
    """The vocabulary, shared by all languages: SentencePiece with byte fallback and one token per language."""

    model: str | None = Field(None, description="Use this SentencePiece model, written by data_prep; null: train one.")
    vocab_size: int = Field(8000, ge=270, description="Pieces, with special, byte and language tokens.")
    allow_smaller: bool = Field(False, description="Accept fewer pieces where the text does not hold vocab_size.")
    temperature: float = Field(
        5.0, ge=1, description="T of the sample it is trained on: share of a language ~ sentences^(1/T)."
    )
    sentences: int = Field(2_000_000, ge=1, description="Size of that sample; never more than there are sentences.")
    character_coverage: float = Field(0.9999, gt=0, le=1, description="Share of characters that get a piece.")
    model_type: Literal["unigram", "bpe"] = Field("unigram", description="SentencePiece algorithm.")
    num_threads: int = Field(
        4, ge=1, le=64, description="Threads of the training; another number may change the model."
    )


class Shards(Section):
    """The token files."""

    sentences: int = Field(1_000_000, ge=1, description="Sentence pairs in a shard.")


class Spec(Section):
    """A corpus to prepare. Relative paths are relative to the folder of the specification."""

    output: str = Field(description="Folder to write.")
    pivot: str | None = Field(None, description="Language that all pairs share, e.g. eng; null: none.")
    seed: int = Field(1, ge=0, lt=2**63, description="Seed of the held-out draw and of the SentencePiece sample.")
    pairs: list[PairSpec] = Field(min_length=1, description="The language pairs.")
    held_out: HeldOut = HeldOut.model_validate({})
    clean: Clean = Clean.model_validate({})
    sentencepiece: SentencePieceSpec = SentencePieceSpec.model_validate({})
    shards: Shards = Shards.model_validate({})

    @model_validator(mode="after")
    def _pairs_make_sense(self) -> Spec:
        seen: dict[frozenset[str], str] = {}
        for pair in self.pairs:
            if self.pivot is not None and self.pivot not in pair.languages:
                raise ValueError(f"pair {pair.pair} lacks the pivot {self.pivot}; add it to the pair or remove 'pivot'")
            other = seen.setdefault(frozenset(pair.languages), pair.pair)
            if other != pair.pair or sum(p.pair == pair.pair for p in self.pairs) > 1:
                raise ValueError(f"pair {pair.pair} is given twice (also as {other}); list its sources under one entry")
        return self

    @property
    def languages(self) -> tuple[str, ...]:
        """All languages, sorted."""
        return tuple(sorted({language for pair in self.pairs for language in pair.languages}))

    def key_language(self, pair: PairSpec) -> str:
        """The language whose sentences decide what is held out in a pair."""
        return self.pivot or pair.languages[0]
