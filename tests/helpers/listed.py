"""Little trees of files as the listed corpora have them: OPUS-100's release, NLLB's bitext beside FLORES-200."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from data_prep.spec.layouts import FLORES, OPUS100
from data_prep.spec.pair_lists import listed_corpus

Lines = Callable[[str, str, str], list[str]]
"""Text of a side: called with pair, split and language."""


def sentences(pair: str, split: str, language: str) -> list[str]:
    """Three sentences that no other pair, split or language has."""
    words = ["stone", "river", "cloud"]
    return [f"{language} {pair} {split} {word} {number}" for number, word in enumerate(words)]


def write_opus100(root: Path, lines: Lines = sentences) -> None:
    """Writes all files of the release below ``root``/v1.0."""
    for pair, entry in listed_corpus("opus100").pairs.items():
        folder = root / "v1.0" / ("zero-shot" if entry.train is None else "supervised") / pair
        folder.mkdir(parents=True)
        for split in entry.lines:
            for language in pair.split("-"):
                write(folder / f"opus.{pair}-{OPUS100[split]}.{language}", lines(pair, split, language))


def write_nllb(root: Path, name: str, lines: Lines = sentences) -> None:
    """Writes a corpus ``made`` with the training text of all pairs of a list, and FLORES-200 for its languages."""
    listed = listed_corpus(name)
    for pair in listed.pairs:
        for language in pair.split("-"):
            write(root / "made" / pair / f"made.{pair}.{language}", lines(pair, "train", language))
    for language in listed.languages:
        for split, part in FLORES.items():
            code = listed.codes[language][0]
            write(root / "flores200_dataset" / part / f"{code}.{part}", lines("flores", split, language))


def write(path: Path, lines: list[str]) -> None:
    """Writes a text, with the folders it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
