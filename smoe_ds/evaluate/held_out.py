"""Held-out text to evaluate on: which corpus, which directions, and their sentences."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.lines import read_lines
from smoe_ds.decode.load import TrainedModel
from smoe_ds.errors import DataError

ZERO_SHOT = "zero-shot"
"""Stands for the directions that have held-out text but no training text."""


@dataclass(frozen=True)
class HeldOut:
    """Held-out text of one direction, as lines."""

    direction: str
    sources: Sequence[str]
    references: Sequence[str]

    @property
    def source_language(self) -> str:
        return self.direction.split("-")[0]

    @property
    def target_language(self) -> str:
        return self.direction.split("-")[1]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of sources and references: equal ones make scores comparable."""
        return hashlib.sha256(json.dumps([list(self.sources), list(self.references)]).encode()).hexdigest()


@dataclass(frozen=True)
class Chosen:
    """Directions to evaluate.

    Attributes:
        directions: their names, each once.
        left_out: trained directions without held-out text.
    """

    directions: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def corpus_of(model: TrainedModel, data: Path | None) -> Corpus:
    """The prepared corpus: the one named, or that of the model's run.

    Raises:
        DataError: there is no such folder, or it is damaged.
    """
    path = data or Path(model.config.smoe.data.path)
    if not path.is_dir():
        where = "--data" if data else f"smoe.data.path of {model.files.config}"
        raise DataError(f"{path}: no such folder ({where}); name the prepared corpus with --data DIR")
    return Corpus(path, verify=False)


def choose_directions(trained: Sequence[str] | None, corpus: Corpus, asked: str | None, split: str) -> Chosen:
    """The directions that are asked for, or the trained ones that have text in the split.

    Args:
        trained: directions the model was trained on; None: all of the corpus with training text.
        corpus: the corpus.
        asked: names separated by commas, `ZERO_SHOT` among them; None: the trained ones.
        split: of the corpus.

    Raises:
        DataError: that is none.
    """
    scored = corpus.directions_of(split)
    if asked is None:
        trained = trained or corpus.directions_of("train")
        left_out = [name for name in trained if name in corpus.directions and name not in scored]
        chosen = Chosen(tuple(name for name in trained if name not in left_out), tuple(left_out))
    else:
        zero_shot = [name for name in scored if name not in corpus.directions_of("train")]
        names = [name.strip() for name in asked.split(",") if name.strip()]
        all_names = [each for name in names for each in (zero_shot if name == ZERO_SHOT else [name])]
        chosen = Chosen(tuple(dict.fromkeys(all_names)))
    if not chosen.directions:
        what = f"no {split} text of the trained directions" if asked is None else f"--directions {asked!r}: names none"
        raise DataError(f"{corpus.path}: {what}; the corpus has {', '.join(scored) or 'no such text'}")
    return chosen


def read_held_out(corpus: Corpus, split: str, direction: str, limit: int | None) -> HeldOut:
    """The first ``limit`` sentences of a direction.

    Raises:
        DataError: there is no such split or direction, the two sides have different lengths, or there is no sentence.
    """
    files = corpus.text_files(split, direction)
    sources, references = (read_lines(file, limit) for file in files)
    if len(sources) != len(references):
        raise DataError(f"{files[0]}: {len(sources)} lines, but {files[1]} has {len(references)}; prepare it again")
    if not sources:
        raise DataError(f"{files[0]}: no sentence to evaluate on; choose another split or leave out {direction}")
    return HeldOut(direction, sources, references)
