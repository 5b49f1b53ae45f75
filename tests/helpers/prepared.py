"""A small made-up corpus: invented languages beside English, word-by-word ciphers with a word order of their own."""

from __future__ import annotations

import gzip
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from data_prep.held_out.splits import Counts, Spools
from data_prep.prepare import prepare
from data_prep.progress import Progress
from data_prep.spec.load_spec import load_spec
from data_prep.spec.sections import Spec
from data_prep.stages.hash import Inputs
from data_prep.stages.pieces import Pieces
from data_prep.stages.read import read_all
from data_prep.stages.run import Run
from data_prep.workers.pool import here
from smoe_ds.data.corpus import Corpus

SUBJECTS = [
    "the house",
    "a small dog",
    "my old friend",
    "this red book",
    "her brother",
    "the teacher",
    "our village",
    "a green tree",
]
VERBS = ["sees", "finds", "likes", "follows", "remembers", "carries", "opens", "hears", "paints", "leaves"]
OBJECTS = [
    "the river",
    "some bread",
    "a long road",
    "the blue door",
    "two birds",
    "the morning",
    "an answer",
    "the market",
    "my hat",
    "snow",
]
SYLLABLES = {
    "nso": ["ka", "lo", "mi", "ga", "tše", "re", "bo", "sa"],
    "cat": ["el", "que", "ny", "ça", "ral", "ò", "ti", "ma"],
    "rus": ["да", "ко", "ли", "ня", "су", "ве", "зо", "ры"],
}


def sentence(number: int) -> str:
    """English sentence of a number below 800; different numbers give different sentences."""
    subject, rest = number % len(SUBJECTS), number // len(SUBJECTS)
    return f"{SUBJECTS[subject]} {VERBS[rest % 10]} {OBJECTS[rest // 10]}".capitalize() + "."


def translate(text: str, language: str) -> str:
    """The sentence in an invented language: words replaced one by one, the last two swapped."""
    words = [_word(word, language) for word in text.rstrip(".").lower().split()]
    words[-2:] = reversed(words[-2:])
    return " ".join(words).capitalize() + "."


def _word(word: str, language: str) -> str:
    source = random.Random(word + language)
    return "".join(source.choice(SYLLABLES[language]) for _ in range(source.randint(1, 3)))


def write_lines(path: Path, lines: Sequence[str]) -> str:
    """Writes lines, gzip if the name says so; returns the file's name."""
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path.name


def write_pair(folder: Path, name: str, language: str, numbers: Sequence[int]) -> dict[str, str]:
    """Writes the sentences of the given numbers as a file pair; returns the source for the specification."""
    english = [sentence(number) for number in numbers]
    foreign = [translate(text, language) for text in english]
    return {
        "src": write_lines(folder / f"{name}.eng-{language}.eng", english),
        "tgt": write_lines(folder / f"{name}.eng-{language}.{language}", foreign),
    }


def small_spec(folder: Path, languages: Sequence[str] = ("nso", "cat"), size: int = 400) -> dict[str, Any]:
    """A specification, as a dict, of a corpus whose text is written into the folder; held-out text is drawn."""
    pairs = []
    for position, language in enumerate(languages):
        source = write_pair(folder, "train", language, range(position * 50, position * 50 + size))
        pairs.append({"pair": f"eng-{language}", "train": [source]})
    return {
        "output": "corpus",
        "pivot": "eng",
        "pairs": pairs,
        "held_out": {"valid": 10, "test": 20, "max_fraction": 0.2},
        "sentencepiece": {"vocab_size": 360, "num_threads": 1, "allow_smaller": True},
    }


def write_spec(folder: Path, spec: dict[str, Any]) -> Path:
    """Writes a specification as YAML; returns its path."""
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec, allow_unicode=True), encoding="utf-8")
    return path


def prepare_spec(folder: Path, spec: dict[str, Any], **options: Any) -> Corpus:
    """Prepares a corpus from a specification given as a dict, in the folder its texts are in."""
    loaded = load_spec(write_spec(folder, spec))
    return prepare(loaded, folder, folder / loaded.output, **options)[0]


def small_corpus(folder: Path, languages: Sequence[str] = ("nso", "cat"), size: int = 400, **sections: Any) -> Corpus:
    """Prepares the small corpus; keyword arguments replace sections of the specification."""
    return prepare_spec(folder, small_spec(folder, languages, size) | sections)


def read_texts(spec: Spec, folder: Path, work: Path, piece_size: int = 1000) -> tuple[Spools, Counts]:
    """Reads and cleans the texts of a specification, without going on."""
    with here(1) as workers:
        run = Run(spec, folder, Pieces(work), workers, Progress(quiet=True), piece_size, num_threads=1)
        spools, counts, _ = read_all(run, Inputs(run))
    return spools, counts
