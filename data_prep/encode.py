"""Encodes the parts of a pair and writes them as shards, with the text of what is held out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from data_prep.spec import PairSpec, Spec
from data_prep.splits import Part
from smoe_ds.data.shards import SPLITS, HashedFile, ShardWriter
from smoe_ds.data.tokenizer import Tokenizer

_BATCH = 4096


def encode_pair(
    spec: Spec,
    pair: PairSpec,
    parts: Mapping[str, Part],
    folder: Path,
    tokenizer: Tokenizer,
    num_threads: int,
    tick: Callable[[int], None],
) -> dict[str, tuple[dict[str, Any], int]]:
    """Writes all splits of a pair.

    Args:
        spec: the specification.
        pair: the pair.
        parts: by split.
        folder: folder of the corpus.
        tokenizer: the vocabulary.
        num_threads: threads that encode; the result does not depend on them.
        tick: called now and then with the number of pairs written.

    Returns:
        by split the entry for the manifest, and how many pairs exceeded the limit of pieces.
    """
    return {
        split: _encode_part(spec, pair, split, parts[split], folder, tokenizer, num_threads, tick) for split in SPLITS
    }


def _encode_part(
    spec: Spec,
    pair: PairSpec,
    split: str,
    part: Part,
    folder: Path,
    tokenizer: Tokenizer,
    num_threads: int,
    tick: Callable[[int], None],
) -> tuple[dict[str, Any], int]:
    writer = ShardWriter(folder / split / pair.pair, pair.languages, tokenizer.vocab_size, spec.shards.sentences)
    texts = [] if split == "train" else [_open_text(folder, split, pair, name) for name in pair.languages]
    dropped = written = 0
    for src_lines, tgt_lines in _batches(part.spool.lines(0, part.mask), part.spool.lines(1, part.mask)):
        src, tgt = (tokenizer.encode_batch(lines, num_threads) for lines in (src_lines, tgt_lines))
        limit = spec.clean.max_pieces
        fits = [0 < len(a) <= limit and 0 < len(b) <= limit for a, b in zip(src, tgt, strict=True)]
        if not all(fits):
            dropped += fits.count(False)
            src, tgt = _only(src, fits), _only(tgt, fits)
            src_lines, tgt_lines = _only(src_lines, fits), _only(tgt_lines, fits)
        writer.add(src, tgt)
        for text, lines in zip(texts, (src_lines, tgt_lines), strict=False):
            text.write("".join(f"{line}\n" for line in lines).encode("utf-8"))
        written += len(src)
        tick(written)
    entry = writer.close()
    if texts:
        entry["text"] = {name: text.close() for name, text in zip(pair.languages, texts, strict=True)}
    return entry, dropped


def _open_text(folder: Path, split: str, pair: PairSpec, language: str) -> HashedFile:
    (folder / "text").mkdir(exist_ok=True)
    return HashedFile(folder / "text" / f"{split}.{pair.pair}.{language}")


def _only(values: list[Any], wanted: Iterable[bool]) -> list[Any]:
    return [value for value, keep in zip(values, wanted, strict=True) if keep]


def _batches(src: Iterator[str], tgt: Iterator[str]) -> Iterator[tuple[list[str], list[str]]]:
    while src_lines := list(islice(src, _BATCH)):
        yield src_lines, list(islice(tgt, len(src_lines)))
