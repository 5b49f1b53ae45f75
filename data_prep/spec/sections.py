"""The specification of a corpus: what `python -m data_prep SPEC.yaml` reads, as typed sections."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from data_prep.languages.codes import are_one
from data_prep.readers.file_name import FileName
from data_prep.readers.source import Source
from data_prep.spec.pair_lists import PairList
from data_prep.spec.sources import Sources
from smoe_ds.config.section import Section
from smoe_ds.data.splits import HELD_OUT

LANGUAGE = re.compile(r"[A-Za-z][A-Za-z0-9_]{1,31}")


class ExpectedLines(Section):
    """How many lines the texts of a pair should have. If the number differs, the report has a warning."""

    train: int | None = Field(None, ge=1, description="Training lines.")
    valid: int | None = Field(None, ge=1, description="Validation lines.")
    test: int | None = Field(None, ge=1, description="Test lines.")
    tolerance: float = Field(
        0.0, ge=0, description="How far the training lines may be off without a warning, as a share."
    )


class PairSpec(Section):
    """A pair of languages and where its sentences are.

    A pair without training text is only scored (zero-shot). Its test or validation text is held out from the training
    text of all pairs, and nothing is drawn for it.
    """

    pair: str = Field(description='The two languages, e.g. "eng-nso"; every src and tgt below follows this order.')
    train: Sources = Field([], description="Training text. Without any, the pair is only scored.")
    valid: Sources | None = Field(None, description="Validation text. null: draw it from the training text; []: none.")
    test: Sources | None = Field(None, description="Test text. null: draw it from the training text; []: none.")
    group: str | None = Field(None, description="Resource group for tables: high, medium, low ...")
    expect: ExpectedLines | None = Field(None, description="How many lines the texts should have.")

    @model_validator(mode="before")
    @classmethod
    def _nothing_to_draw_from(cls, content: Any) -> Any:
        if isinstance(content, dict) and not content.get("train"):
            return {**content, **{split: [] for split in HELD_OUT if content.get(split) is None}}
        return content

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
        if are_one(*languages):
            raise ValueError(
                f"{pair!r} pairs a language with itself, by two codes of it; if its sides are in two scripts, name "
                "both, as in zho_Hans-zho_Hant"
            )
        return pair

    @property
    def languages(self) -> tuple[str, str]:
        """The two language codes, in the order of the pair's name."""
        src, tgt = self.pair.split("-")
        return src, tgt

    @property
    def sources(self) -> list[Source]:
        """All sources of the pair."""
        return [*self.train, *(self.valid or []), *(self.test or [])]

    @model_validator(mode="after")
    def _sources_make_sense(self) -> PairSpec:
        if not self.sources:
            raise ValueError(
                f"pair {self.pair} has no text; give it train, or test or valid if it is only to be scored"
            )
        for source in self.sources:
            source.check(self.languages)
        return self


class HeldOut(Section):
    """Held-out sentences for pairs that have no validation or test text of their own.

    A hash of the normalised sentence in the pivot language decides which are drawn (without a pivot: in the pair's
    first language). So different pairs draw the same sentences where they can.
    """

    valid: int = Field(100, ge=0, description="Validation sentences to draw for each pair.")
    test: int = Field(200, ge=0, description="Test sentences to draw for each pair.")
    max_fraction: float = Field(
        0.05, ge=0, le=0.5, description="Largest share of a pair that may be drawn, validation and test together."
    )


class Clean(Section):
    """Filters. Each counts what it drops; report.json and manifest.json have the counts.

    From validation and test text that you give, only pairs that cannot be used at all are dropped: empty, invalid
    UTF-8, longer than the maximum lengths, or with the same sentence on both sides.
    """

    min_words: int = Field(
        1, ge=1, description="Minimum of words on the pivot's side (no pivot: in the first language)."
    )
    max_words: int = Field(
        250, ge=1, le=1_000_000, description="Maximum of words (separated by white space) on either side."
    )
    max_characters: int = Field(2000, ge=1, le=1_000_000, description="Maximum of characters on either side.")
    max_ratio: float | None = Field(
        6.0,
        gt=1,
        description="How many times longer than the other a side may be, in characters. A Chinese, Japanese or Korean "
        "character counts as three. null: off.",
    )
    max_pieces: int = Field(
        510,
        ge=1,
        le=1_000_000,
        description="Maximum of SentencePiece pieces on either side: two less than the model's max_positions.",
    )
    no_letters: Literal["drop", "keep"] = Field(
        "drop", description="Pairs with a side that has only numbers, punctuation or symbols."
    )
    copies: Literal["drop", "keep"] = Field(
        "drop", description="Training pairs whose two sides are equal; they never become validation or test text."
    )
    wrong_script: Literal["drop", "keep"] = Field(
        "drop",
        description="Pairs with a side that has too few letters in a script of its language. The scripts are known for "
        "the languages of M4, M15 and OPUS-100 and for codes that name one (zho_Hant). In any other language a "
        "sentence must be in the script of most of that language's sentences in the pair.",
    )
    min_script_share: float = Field(
        0.25,
        ge=0,
        le=1,
        description="Smallest share of a side's letters that must be in a script of its language. It is low because "
        "names and products keep their own script. A Chinese, Japanese or Korean character counts as three letters.",
    )
    control_characters: Literal["strip", "drop"] = Field(
        "strip", description="NUL and other control characters: remove them from the text, or drop the pair."
    )
    entities: Literal["keep", "unescape", "drop"] = Field(
        "keep",
        description="Escaped characters such as &amp;, &#39; and &lt;b&gt;, as Moses' tokenizer and web pages write "
        "them: keep them, replace them by the characters themselves (in validation and test text too), or drop the "
        "training pair. The report counts what is kept.",
    )
    duplicates: Literal["drop", "keep"] = Field(
        "drop", description="Pairs whose two sentences occurred before, in either order. See duplicates_across."
    )
    near_duplicates: Literal["drop", "keep"] = Field(
        "drop",
        description="Pairs that differ from an earlier one only in case, punctuation, spacing, width of letters (NFKC) "
        "and the values of numbers.",
    )
    duplicates_across: Literal["pair", "same_languages", "all"] = Field(
        "same_languages",
        description="Where duplicates are looked for. pair: in the same pair; same_languages: also in earlier pairs of "
        "the same two languages, which may have several codes (see same_languages); all: in all earlier pairs.",
    )
    same_languages: list[list[str]] = Field(
        [["no", "nb", "nn"]],
        description="Groups of languages that count as one in duplicates_across. Two-letter codes, three-letter codes "
        "and codes with a script (en, eng, eng_Latn) always count as one language.",
    )
    invalid_utf8: Literal["drop", "refuse"] = Field(
        "drop",
        description="Lines that are not UTF-8: drop them with their counterpart, or refuse the file. A file is always "
        "refused if most of its lines with non-ASCII bytes are invalid: then it is in another encoding.",
    )


class SentencePieceSpec(Section):
    """The vocabulary, shared by all languages: SentencePiece with byte fallback and one token per language."""

    model: FileName | None = Field(
        None,
        description="Use this model, the tokenizer.model of a corpus or of a run, instead of training one. It must "
        "have a token for every language. The keys below have no effect then.",
    )
    vocab_size: int = Field(
        32_000,
        ge=270,
        le=1_000_000,
        description="Pieces, including special, byte, language and reserved tokens (M4, M15: 32k; OPUS-100: 64k).",
    )
    reserved: int = Field(8, ge=0, le=1000, description="Control tokens <reserved_0>, ... for later use.")
    allow_smaller: bool = Field(False, description="Accept fewer pieces if the text is too small for vocab_size.")
    temperature: float = Field(
        5.0, ge=1, description="T of the training sample: a language's share is proportional to sentences^(1/T)."
    )
    sentences: int = Field(2_000_000, ge=1, description="Size of that sample; all sentences if there are fewer.")
    character_coverage: float = Field(
        0.9999,
        ge=0.98,
        le=1,
        description="Share of the sample's characters that get a piece. The rest is spelled in bytes.",
    )
    model_type: Literal["unigram", "bpe"] = Field("unigram", description="SentencePiece algorithm.")
    normalization: Literal["nfc", "nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity"] = Field(
        "nfc",
        description="What the model changes in text before it looks for pieces. nfc: nothing a reader sees, only "
        "composition and white space. The others are SentencePiece's: all but identity replace compatibility "
        "characters (full-width punctuation, superscripts, ligatures), nmt_ also zero-width joiners, _cf also folds "
        "case, and no translation can hold what they replace. A given model keeps its own rule.",
    )
    num_threads: int = Field(
        4, ge=1, le=64, description="Threads of the training. Another number may change the model."
    )


class Shards(Section):
    """The token files."""

    sentences: int = Field(1_000_000, ge=1, description="Sentence pairs in a shard.")


class Spec(Section):
    """A corpus to prepare.

    Relative paths start from the folder of the specification. For a corpus known by name they start from the current
    folder. In paths, ~ and $NAME are replaced as in a shell.
    """

    output: FileName = Field(description="Folder to write.")
    pivot: str | None = Field(None, description="Language that all pairs share, e.g. eng. null: none.")
    seed: int = Field(1, ge=0, lt=2**63, description="Seed of the held-out draw and of the SentencePiece sample.")
    pairs: list[PairSpec] = Field([], description="The language pairs, in addition to those of pair_list.")
    pair_list: PairList | None = Field(None, description="A corpus that is known by name. null: none.")
    left_out: list[str] = Field([], description="Not yours to set: what of pair_list is left out, and why.")
    held_out: HeldOut = HeldOut.model_validate({})
    clean: Clean = Clean.model_validate({})
    sentencepiece: SentencePieceSpec = SentencePieceSpec.model_validate({})
    shards: Shards = Shards.model_validate({})

    @model_validator(mode="after")
    def _pairs_make_sense(self) -> Spec:
        if not self.pairs and self.pair_list is None:
            raise ValueError("no pairs; write them under 'pairs', or name a known corpus under 'pair_list'")
        if self.pairs and not any(pair.train for pair in self.pairs) and self.pair_list is None:
            raise ValueError("no pair has training text; give at least one 'train'")
        seen: dict[frozenset[str], str] = {}
        for number, pair in enumerate(self.pairs):
            if pair.train and self.pivot is not None and self.pivot not in pair.languages:
                raise ValueError(f"pair {pair.pair} lacks the pivot {self.pivot}; add it to the pair or remove 'pivot'")
            other = seen.setdefault(frozenset(pair.languages), pair.pair)
            if len(seen) <= number:
                raise ValueError(f"pair {pair.pair} is given twice (also as {other}); list its sources under one entry")
        return self

    @property
    def languages(self) -> tuple[str, ...]:
        """All languages, sorted."""
        return tuple(sorted({language for pair in self.pairs for language in pair.languages}))

    def key_language(self, pair: PairSpec) -> str:
        """The language whose sentences decide what is held out in a pair."""
        return self.pivot if self.pivot in pair.languages else pair.languages[0]
