"""What the manifest of a corpus may hold: types of all that is read of it, and names that stay inside its folder.

A digest that fits says only that the file is as its writer left it, not that data_prep was the writer. Keys that are
not known here are left alone: a later version may have added them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from smoe_ds.config.problems import dotted, found, shortened
from smoe_ds.config.tree_limits import problem_in
from smoe_ds.data.splits import Split

PlainName = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$", max_length=255)]
"""A file's name without a folder."""
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Language = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+$", max_length=64)]
Pair = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+-[A-Za-z0-9_]+$", max_length=129)]
Number = Annotated[int, Field(ge=0, lt=2**62)]
Sides = Annotated[list[str], Field(min_length=2, max_length=2)]
"""A text before and after."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


class File(_Part):
    """A file in the folder that its place implies."""

    file: PlainName
    bytes: Number
    sha256: Digest


class TokenizerFile(File):
    """The SentencePiece model."""

    vocab_size: int = Field(ge=1, lt=2**31)


class TokenFile(File):
    """Ids."""

    file: str = Field(pattern=r"^\w[\w.-]*\.bin$", max_length=255)


class OffsetFile(File):
    """Where sentences begin."""

    file: str = Field(pattern=r"^\w[\w.-]*\.idx$", max_length=255)


class ChecksumFile(File):
    """Checksums of both."""

    file: str = Field(pattern=r"^\w[\w.-]*\.crc$", max_length=255)


class Side(_Part):
    """One language of a shard."""

    tokens: Number
    bin: TokenFile
    idx: OffsetFile
    crc: ChecksumFile


class Shard(_Part):
    """Sentence pairs of one pair and split."""

    sentences: Number
    sides: dict[Language, Side]


class PairEntry(_Part):
    """A pair in a split."""

    sentences: Number
    tokens: dict[Language, Number]
    shards: list[Shard]
    text: dict[Language, File] = Field({})


class Counts(_Part):
    """What became of the text of a pair in a split."""

    read: Number | None = None
    drawn: Number | None = None
    asked: Number | None = None
    moved: Number = 0
    dropped: dict[str, Number]
    noticed: dict[str, Number]
    places: list[str] = Field([])


class LostCharacter(_Part):
    """A character that a language loses by the vocabulary."""

    character: str
    code_point: str
    count: Number


class Figures(_Part):
    """How the vocabulary suits a language."""

    text: str
    characters_per_token: float | None
    tokens_per_sentence: float | None
    character_coverage: float | None
    token_coverage: float | None
    vocabulary_used: float | None
    compared: Number = 0
    changed: Number = 0
    changed_examples: list[Sides] = Field([])
    lost: Number = 0
    lost_characters: list[LostCharacter] = Field([])


class Vocabulary(_Part):
    """The vocabulary as it was asked for and as it is."""

    requested: Number
    pieces: Number
    normalization: str | None = None
    languages: dict[Language, Figures] = Field({})


class Input(_Part):
    """A file that was read, as the specification names it."""

    file: str
    bytes: Number
    sha256: Digest


class ManifestSchema(_Part):
    """All that is read of a manifest."""

    tokenizer: TokenizerFile
    report_file: File | None = None
    languages: list[Language]
    pairs: list[Pair]
    splits: dict[Split, dict[Pair, PairEntry]]
    vocabulary: Vocabulary
    report: dict[Pair, dict[Split, Counts]]
    warnings: list[str]
    inputs: list[Input]
    groups: dict[Pair, str] = Field({})
    spec: dict[str, Any] = Field({})


def problem_of(manifest: dict[str, Any]) -> str | None:
    """What of a manifest no corpus can have, in words: the first place, and how many more; None if nothing.

    Args:
        manifest: as it was parsed.
    """
    try:
        checked = ManifestSchema.model_validate(manifest)
    except ValidationError as error:
        first, more = error.errors(include_url=False)[0], error.error_count() - 1
        also = f" (and {more:,} more problems)" if more else ""
        return f"{shortened(dotted(first['loc']), 200)}: {shortened(first['msg'], 200)}, {found(first['input'])}{also}"
    if (problem := problem_in(manifest.get("spec"))) is not None:
        return f"spec: {problem}"
    return next(_contradictions(checked), None)


def _contradictions(manifest: ManifestSchema) -> Iterator[str]:
    """Where names in one place are not those in another."""
    pairs = manifest.pairs
    sides = {pair: set(pair.split("-")) for pair in pairs}
    if len({frozenset(languages) for languages in sides.values()}) < len(pairs):
        yield "pairs: two are of the same two languages"
    if any(len(languages) < 2 for languages in sides.values()):
        yield "pairs: one pairs a language with itself"
    if not set().union(*sides.values()) <= set(manifest.languages):
        yield "languages: lacks one of the pairs'"
    if len(manifest.splits) < 3:
        yield "splits: expected train, valid and test"
    for split, entries in manifest.splits.items():
        if set(entries) != set(pairs):
            yield f"splits.{split}: its pairs are not those of the corpus"
        for pair, entry in entries.items():
            named: list[Iterable[str]] = [
                entry.tokens,
                *(shard.sides for shard in entry.shards),
                *([entry.text] if entry.text else []),
            ]
            if any(set(languages) != sides.get(pair) for languages in named):
                yield f"splits.{split}.{pair}: its languages are not {' and '.join(pair.split('-'))}"
    for pair, counts in manifest.report.items():
        if pair not in sides:
            yield f"report.{pair}: is not a pair of the corpus"
        elif any(count.read is None and (count.drawn is None or count.asked is None) for count in counts.values()):
            yield f"report.{pair}: says neither how many sentences were read nor how many were drawn"
