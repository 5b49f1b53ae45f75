"""Every kind of source through the one door that all are read by, hostile text and sizes included."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data_prep.readers.compressed import SUFFIXES
from data_prep.readers.notes import Notes
from data_prep.readers.sides import SidePair, Unusable
from data_prep.readers.source import Reading, read_source
from data_prep.spec.sections import PairSpec
from smoe_ds.errors import DataError
from tests.helpers.catalogs import compiled_catalog
from tests.helpers.compressed import COMPRESS
from tests.helpers.prepared import prepare_spec, write_pair

PAIRS = [("The house is small.", "Ntlo e nnyane."), ("Good morning!", "Thobela!")]


def lines(texts: list[str]) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


def tmx(pairs: list[tuple[str, str]]) -> bytes:
    units = "".join(
        f'<tu><tuv xml:lang="eng"><seg>{a}</seg></tuv><tuv xml:lang="nso"><seg>{b}</seg></tuv></tu>' for a, b in pairs
    )
    return f"<tmx><body>{units}</body></tmx>".encode()


def jsonl(pairs: list[tuple[str, str]]) -> bytes:
    return lines([json.dumps({"eng": a, "nso": b}) for a, b in pairs])


def reading(folder: Path, files: dict[str, bytes], source: dict[str, Any], pair: str = "eng-nso") -> Iterator[SidePair]:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    spec = PairSpec.model_validate({"pair": pair, "train": [source]})
    assert set(spec.train[0].files()) == set(files)
    blocks = read_source(spec.train[0], folder, Reading(spec.languages, "eng", Notes(), refuse_invalid=False))
    return (found for block in blocks for found in block.pairs())


@pytest.mark.parametrize("suffix", ["", *SUFFIXES])
def test_compressible_kinds(tmp_path: Path, suffix: str) -> None:
    def files(**contents: bytes) -> dict[str, bytes]:
        return {f"{name}{suffix}": COMPRESS[suffix](data) for name, data in contents.items()}

    first, second = ([pair[side] for pair in PAIRS] for side in (0, 1))
    a, b = f"a{suffix}", f"b{suffix}"
    assert list(reading(tmp_path, files(a=lines(first), b=lines(second)), {"src": a, "tgt": b})) == PAIRS
    assert list(reading(tmp_path, files(a=lines(["\t".join(pair) for pair in PAIRS])), {"tsv": a})) == PAIRS
    assert list(reading(tmp_path, files(a=tmx(PAIRS)), {"tmx": a})) == PAIRS
    assert list(reading(tmp_path, files(a=jsonl(PAIRS)), {"jsonl": a})) == PAIRS
    with pytest.raises(
        DataError, match=rf"a\{suffix} has 2 lines, \S+b\{suffix} has 1: they are not aligned beyond line 1"
    ):
        list(reading(tmp_path, files(a=lines(first), b=lines(second[:1])), {"src": a, "tgt": b}))


def test_kinds_with_options(tmp_path: Path) -> None:
    swapped = [pair[::-1] for pair in PAIRS]
    assert list(reading(tmp_path, {"a": tmx(PAIRS)}, {"tmx": "a", "languages": ["nso", "eng"]})) == swapped
    inside = lines([json.dumps({"t": {"x": a, "y": b}}) for a, b in PAIRS])
    assert list(reading(tmp_path, {"a": inside}, {"jsonl": "a", "keys": ["t.y", "t.x"]})) == swapped
    table = lines(["id\tnso\teng", *(f"{number}\t{b}\t{a}" for number, (a, b) in enumerate(PAIRS))])
    assert list(reading(tmp_path, {"a": table}, {"tsv": "a", "columns": [2, 1], "header": True})) == PAIRS
    po = lines([line for a, b in PAIRS for line in (f'msgid "{a}"', f'msgstr "{b}"', "")])
    assert list(reading(tmp_path, {"a": po}, {"po": "a"})) == PAIRS
    assert list(reading(tmp_path, {"a": po}, {"po": "a"}, pair="nso-eng")) == swapped
    assert list(reading(tmp_path, {"a": compiled_catalog(dict(PAIRS))}, {"mo": "a", "msgid": "nso"})) == sorted(
        swapped, key=lambda pair: pair[1]
    )
    messages = {name: json.dumps({str(n): pair[side] for n, pair in enumerate(PAIRS)}).encode()
                for side, name in enumerate(("a", "b"))}  # fmt: skip
    assert list(reading(tmp_path, messages, {"mediawiki": {"src": "a", "tgt": "b"}})) == PAIRS


def test_half_a_surrogate_pair_is_no_text(tmp_path: Path) -> None:
    messages = {"a": b'{"k": "\\ud83d", "l": "x"}', "b": b'{"k": "b", "l": "\\ud83d\\ude00"}'}
    pairs = list(reading(tmp_path, messages, {"mediawiki": {"src": "a", "tgt": "b"}, "markup": "keep"}))
    assert pairs == [(Unusable.INVALID_UTF8, "b"), ("x", "😀")]


def hostile(kind: str, texts: list[tuple[str, str]]) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Files and source of a kind with the given pairs; written without care for what is in them."""
    if kind == "text":
        return {side: lines([pair[n] for pair in texts]) for n, side in enumerate("ab")}, {"src": "a", "tgt": "b"}
    content = {"tsv": lines(["\t".join(pair) for pair in texts]), "tmx": tmx(texts), "jsonl": jsonl(texts)}[kind]
    return {"a": content}, {kind: "a"}


@pytest.mark.parametrize("kind", ["text", "tsv", "tmx", "jsonl"])
def test_a_line_of_10_mb_is_unusable_and_the_next_one_is_read(tmp_path: Path, kind: str) -> None:
    files, source = hostile(kind, [PAIRS[0], ("x" * 10_000_000, "y"), PAIRS[1]])
    pairs = reading(tmp_path, files, source)
    del files
    tracemalloc.start()
    found = list(pairs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [found[0], found[2]] == PAIRS and found[1][0] is Unusable.TOO_LONG and peak < 24_000_000


@pytest.mark.parametrize("kind", ["text", "tsv", "jsonl"])
def test_empty_lines_take_no_memory(tmp_path: Path, kind: str) -> None:
    empty = b"\n" * 500_000
    files, source = hostile(kind, PAIRS)
    pairs = reading(tmp_path, {name: empty + content for name, content in files.items()}, source)
    tracemalloc.start()
    texts = [pair for pair in pairs if pair != ("", "")]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert texts == PAIRS and peak < 4_000_000  # a block of 64 KiB as objects


@pytest.mark.parametrize("number", [50_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_empty_lines_are_counted(tmp_path: Path, number: int) -> None:
    source = write_pair(tmp_path, "train", "nso", range(60))
    for name in source.values():
        text = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(text + b"\n" * number + text)
    corpus = prepare_spec(tmp_path, {
        "output": "out", "pairs": [{"pair": "eng-nso", "train": source, "valid": [], "test": []}],
        "sentencepiece": {"vocab_size": 400, "allow_smaller": True, "num_threads": 1},
    })  # fmt: skip
    report = corpus.manifest["report"]["eng-nso"]["train"]
    assert (report["read"], report["dropped"]) == (number + 120, {"empty": number, "duplicate": 60})
    assert len(corpus.sentences("train", "eng-nso")) == 60
