"""Writes the text of the quickstart's corpus: parallel files and their specification for `python -m data_prep`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from smoe_ds.errors import DataError

PIVOT = "eng"
MIN_ENGLISH_WORDS = 3
MIN_RATIO, MAX_RATIO = 0.12, 4.0
MAX_SHARED_WORDS = 0.5
_WORD = re.compile(r"[^\W\d_]{2,}")
_NO_SENTENCE = re.compile(r"\. \. \.|\w;\w+;|(?:^|\s)\|\s")  # tables of options, lists of keywords
_NOT_PLAIN = re.compile(r"%|\$\w|[{}<>|=\\_@#/*~^]|--|\w[.:]\w|\d")


def is_sentence_pair(english: str, other: str) -> bool:
    """Whether two strings of a catalog serve as training text.

    Args:
        english: cleaned English string.
        other: its cleaned translation.

    Returns:
        True for at least three English words, of which less than half are in the translation too (it would be left in
        English for the most part), and a length ratio English / translation (characters) within 0.12 to 4.
    """
    words, others = (Counter(_WORD.findall(text.casefold())) for text in (english, other))
    if words.total() < MIN_ENGLISH_WORDS or not other or _NO_SENTENCE.search(english):
        return False
    if english.casefold() == other.casefold() or not MIN_RATIO <= len(english) / len(other) <= MAX_RATIO:
        return False
    shorter = min(words.total(), others.total())
    return (words & others).total() < MAX_SHARED_WORDS * shorter


def is_plain(english: str, max_words: int) -> bool:
    """Whether a string is short and all words: no format specifier, digit, address, option or file name.

    A short training learns little else, and copying the source scores next to nothing on such sentences, whereas
    placeholders that are equal on both sides bring it up to 10 BLEU.
    """
    return len(english.split()) <= max_words and not _NOT_PLAIN.search(english)


def unique_pairs(pairs: Iterable[tuple[str, str]], max_plain_words: int | None = None) -> list[tuple[str, str]]:
    """Sentence pairs in order, each once, upper and lower case taken as equal; what is no sentence pair is left out.

    Args:
        pairs: cleaned (English, translation) strings.
        max_plain_words: keep only plain English sentences of so many words at most, see `is_plain`; None: all.
    """
    kept: dict[tuple[str, str], tuple[str, str]] = {}
    for english, other in pairs:
        if is_sentence_pair(english, other) and (max_plain_words is None or is_plain(english, max_plain_words)):
            kept.setdefault((english.casefold(), other.casefold()), (english, other))
    return list(kept.values())


def write_corpus_text(
    folder: Path, pairs: Mapping[str, list[tuple[str, str]]], *, output: str, origin: Mapping[str, Any]
) -> Path:
    """Writes ``text/eng-LANG.{eng,LANG}``, ``origin.json`` and, last of all, ``spec.yaml``.

    Args:
        folder: where to write; what is there is replaced.
        pairs: language -> (English, translation) pairs.
        output: folder of the prepared corpus, relative to ``folder``.
        origin: where the text is from, kept beside it.

    Returns:
        The specification's path. It exists only when all the rest is complete.

    Raises:
        DataError: a language without a single pair.
    """
    empty = [language for language, found in pairs.items() if not found]
    if empty:
        raise DataError(
            f"{folder}: no sentence pairs found for {', '.join(empty)}; expected at least one a language; "
            "leave these languages out or check their codes"
        )
    text = folder / "text"
    text.mkdir(parents=True, exist_ok=True)
    spec_file = folder / "spec.yaml"
    spec_file.unlink(missing_ok=True)
    for language, found in pairs.items():
        for side, code in enumerate((PIVOT, language)):
            _replace(text / f"{PIVOT}-{language}.{code}", "".join(f"{pair[side]}\n" for pair in found))
    counts = {language: len(found) for language, found in pairs.items()}
    _replace(folder / "origin.json", json.dumps({**origin, "pairs": counts}, indent=2, ensure_ascii=False) + "\n")
    _replace(spec_file, yaml.safe_dump(_specification(pairs, output), sort_keys=False))
    return spec_file


def _specification(languages: Iterable[str], output: str) -> dict[str, Any]:
    pairs = [
        {
            "pair": f"{PIVOT}-{language}",
            "train": [{"src": f"text/{PIVOT}-{language}.{PIVOT}", "tgt": f"text/{PIVOT}-{language}.{language}"}],
        }
        for language in languages
    ]
    return {
        "output": output,
        "pivot": PIVOT,
        "pairs": pairs,
        "held_out": {"valid": 60, "test": 150, "max_fraction": 0.1},
        "clean": {  # the text is chosen above, and too little to lose any more of it
            "max_words": 100,
            "max_pieces": 254,
            "no_letters": "keep",
            "wrong_script": "keep",
            "near_duplicates": "keep",
            "duplicates_across": "pair",
        },
        "sentencepiece": {"vocab_size": 4000, "allow_smaller": True, "num_threads": 2, "reserved": 0},
    }


def _replace(path: Path, content: str) -> None:
    """Writes a file so that it is either the old one or complete."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(content, encoding="utf-8", newline="\n")
    temporary.replace(path)
