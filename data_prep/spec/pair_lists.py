"""The lists of pairs that are known by name, ``pairs/*.yaml``: what each corpus holds and where you get it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from data_prep.readers.file_name import FileName
from smoe_ds.config.section import Section

FOLDER = Path(__file__).parent / "pairs"


class PairList(Section):
    """All pairs of a corpus that is known by name. You download the files yourself and say where they are."""

    name: Literal["m4", "m15", "opus100"] = Field(
        description="The corpus. The files in data_prep/spec/pairs say what each holds."
    )
    root: FileName = Field(description="The folder it is in.")
    flores: FileName | None = Field(
        None, description="For m4 and m15: the folder of FLORES-200. null: flores200_dataset inside root."
    )
    only: list[str] | None = Field(
        None, description="Take only these languages: their pairs with the pivot and with each other. null: all."
    )
    scored_only: bool = Field(
        False,
        description="For opus100: leave out the five training pairs without validation and test text (an, dz, hy, mn, "
        "yo). The paper's 94 of 99 are left.",
    )
    zero_shot: bool = Field(True, description="For opus100: also take the pairs that have only test text.")
    missing: Literal["refuse", "leave_out"] = Field(
        "refuse", description="What to do if files are missing: refuse, or leave out the pairs that lack some."
    )


class ListedPair(Section):
    """A pair of a list, with the number of lines of each text it has."""

    group: str | None = Field(None, description="The paper's resource group.")
    train: int | None = Field(None, ge=1, description="Training lines.")
    valid: int | None = Field(None, ge=1, description="Validation lines.")
    test: int | None = Field(None, ge=1, description="Test lines.")
    also: str | None = Field(None, description="Another of the list's places that training text comes from.")

    @property
    def lines(self) -> dict[str, int]:
        """Lines by split, of the splits that the pair has."""
        numbers = {"train": self.train, "valid": self.valid, "test": self.test}
        return {split: number for split, number in numbers.items() if number is not None}


class ListedCorpus(Section):
    """A list of pairs."""

    corpus: str = Field(description="The corpus's name.")
    layout: Literal["opus100", "nllb"] = Field(description="How its files are named; see `data_prep.spec.layouts`.")
    pivot: str = Field(description="Language of all pairs with training text.")
    tolerance: float = Field(0.0, ge=0, description="Share by which training lines may differ from the list's numbers.")
    described: str = Field(description="The page about it.")
    obtain: dict[str, str] = Field(description="Where to get the files, by part of the corpus.")
    codes: dict[str, list[str]] = Field({}, description="Other codes of the languages, FLORES-200's first.")
    pairs: dict[str, ListedPair] = Field(description="By name; the files are in this order.")

    @property
    def languages(self) -> tuple[str, ...]:
        """All languages, sorted."""
        return tuple(sorted({language for pair in self.pairs for language in pair.split("-")}))

    def names(self, language: str) -> tuple[str, ...]:
        """All codes of a language."""
        return language, *self.codes.get(language, ())


@lru_cache
def listed_corpus(name: str) -> ListedCorpus:
    """Reads a list, ``m4``, ``m15`` or ``opus100``."""
    return ListedCorpus.model_validate(yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))
