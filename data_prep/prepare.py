"""The whole preparation: read and clean, split, train the vocabulary, encode, write shards and manifest.

The text is cleaned into pieces with four hashes a pair; everything that concerns the corpus as a whole is decided on
the hashes (32 bytes a sentence pair). Then the pieces are encoded and put together as shards. Every piece is kept until
the corpus is complete, so that a run that was interrupted goes on where it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_prep.check_files import check_files
from data_prep.held_out.splits import Counts, Parts, parts_fingerprint, split_corpus
from data_prep.output.folder import clear_remains, find_finished, finish, working
from data_prep.output.output_place import output_place
from data_prep.progress import Progress
from data_prep.report.report_file import REPORT, report_content, without_examples, write_report
from data_prep.report.text import warnings_of
from data_prep.spec.code_warnings import code_warnings
from data_prep.spec.list_warnings import list_warnings
from data_prep.spec.sections import Spec
from data_prep.stages.encode import encode_all
from data_prep.stages.hash import Inputs
from data_prep.stages.pieces import fingerprint
from data_prep.stages.read import read_all
from data_prep.stages.read_piece import text_files
from data_prep.stages.run import Run
from data_prep.stages.write import write_all
from data_prep.stages.write_shard import CORPUS
from data_prep.vocabulary.coverage import language_coverage
from data_prep.vocabulary.train import train_vocabulary
from data_prep.workers.pool import Workers, here
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.shards import sha256_of
from smoe_ds.data.splits import SPLITS
from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.errors import DataError

TOKENIZER = "tokenizer.model"
PIECE_SIZE = 16_384
_SMALL = 32 << 20  # bytes


def prepare(
    spec: Spec,
    base: Path,
    output: Path,
    *,
    overwrite: bool = False,
    workers: Workers | int | None = None,
    progress: Progress | None = None,
    piece_size: int = PIECE_SIZE,
) -> tuple[Corpus, bool]:
    """Prepares a corpus, goes on with an interrupted preparation of it, or finds it prepared.

    Args:
        spec: the specification.
        base: folder that its relative paths are relative to.
        output: folder to write; appears only when it is complete.
        overwrite: replace an earlier result.
        workers: processes to use; None: as many as pay off here. The result does not depend on them.
        progress: where to say what is going on.
        piece_size: sentence pairs a task reads, cleans or encodes. The result does not depend on it.

    Returns:
        the corpus, and whether it was there already (verified, from the same specification and inputs).

    Raises:
        DataError: an input is missing, damaged or empty, the output holds something else, cannot be there or is being
            written by another process, or the disk is full.
    """
    progress = progress or Progress(quiet=True)
    output = output_place(output)
    content = spec.model_dump(mode="json", exclude={"output"})
    spec_sha256 = fingerprint(content)

    def finished() -> Corpus | None:
        return find_finished(output, content, spec_sha256, base, overwrite=overwrite)

    corpus = finished()
    if corpus is not None:
        clear_remains(output, progress)
        return corpus, True
    check_files(spec, base)
    for text in code_warnings(spec):
        progress.say(f"warning: {text}")
    with working(output, progress) as pieces:
        corpus = finished()  # by a process that held the lock until now
        if corpus is not None:
            return corpus, True
        with _workers(workers, spec, base) as crew:
            threads = max(1, _cpus() // crew.number)
            manifest = _build(Run(spec, base, pieces, crew, progress, piece_size, threads))
        finish(pieces, output, manifest | {"spec": content, "spec_sha256": spec_sha256})
    return Corpus(output, verify=False), False


def _build(run: Run) -> dict[str, Any]:
    """Writes everything but the manifest, which it returns."""
    spec, progress = run.spec, run.progress
    with progress.stage("hash"):
        inputs = Inputs(run)
    with progress.stage("read and clean"):
        spools, counts, made_from = read_all(run, inputs)
    with progress.stage("split"):
        parts = split_corpus(spec, spools, counts)
    with progress.stage("vocabulary"):
        tokenizer, vocabulary = _vocabulary(run, parts, parts_fingerprint(parts, made_from))
    with progress.stage("encode"):
        encoded, round_trip = encode_all(run, parts, counts, made_from, tokenizer.sha256)
    with progress.stage("write"):
        splits = write_all(run, encoded, tokenizer.vocab_size)
    _check_not_empty(spec, splits)
    report = _report(spec, counts)
    suits = language_coverage(run.pieces.root / CORPUS, splits, tokenizer)
    vocabulary["languages"] = {language: {**suits[language], **round_trip[language]} for language in suits}
    warnings = [*code_warnings(spec), *list_warnings(spec, report), *warnings_of(report, vocabulary)]
    report_file = write_report(run.pieces, f"{CORPUS}/{REPORT}", report_content(report, splits, vocabulary, warnings))
    return {
        "tokenizer": _tokenizer_entry(tokenizer),
        "languages": list(spec.languages),
        "pairs": [pair.pair for pair in spec.pairs],
        "splits": splits,
        "vocabulary": vocabulary,
        "report": without_examples(report),
        "report_file": report_file,
        "groups": {pair.pair: pair.group for pair in spec.pairs if pair.group is not None},
        "warnings": warnings,
        "inputs": [inputs.entries[name] for name in sorted(inputs.entries)],
    }


def _report(spec: Spec, counts: Counts) -> dict[str, dict[str, Any]]:
    return {
        pair.pair: {split: counts[pair.pair, split] for split in SPLITS if (pair.pair, split) in counts}
        for pair in spec.pairs
    }


def _check_not_empty(spec: Spec, splits: dict[str, dict[str, Any]]) -> None:
    empty = [
        f"no sentence pairs in the {split} text of {pair.pair}: all exceed max_pieces {spec.clean.max_pieces}"
        for pair in spec.pairs
        for split in SPLITS
        if getattr(pair, split) and not splits[split][pair.pair]["sentences"]
    ]
    if empty:
        raise DataError("\n".join(empty))


def _vocabulary(run: Run, parts: Parts, text: list[list[str]]) -> tuple[Tokenizer, dict[str, Any]]:
    """Trains or copies the SentencePiece model; returns it and how it came about."""
    spec, settings = run.spec, run.spec.sentencepiece
    given = run.base / settings.model if settings.model else None
    made_from = fingerprint(
        settings.model_dump(mode="json"),
        sha256_of(given) if given else [text, spec.seed, spec.languages, spec.clean.max_characters],
    )
    done = run.pieces.find("tokenizer", made_from)
    tokenizer = None
    if done is None:
        requested, sample = settings.vocab_size, None
        if given is None:
            run.progress.say(f"training the vocabulary of {requested:,} pieces")
            model, sample = train_vocabulary(spec, parts)
        else:
            tokenizer = Tokenizer(given)  # which was checked at the start
            model, requested = given.read_bytes(), tokenizer.vocab_size
        done = {"requested": requested, "sample": sample}
        run.pieces.commit_data("tokenizer", made_from, {f"{CORPUS}/{TOKENIZER}": model}, done, durable=True)
    tokenizer = tokenizer or Tokenizer(run.pieces.root / CORPUS / TOKENIZER)
    return tokenizer, {
        "requested": done["requested"],
        "pieces": tokenizer.vocab_size,
        "given": settings.model,
        "byte_fallback": any(kind == "byte" for _, kind in tokenizer.vocabulary()),
        "normalization": tokenizer.normalization,
        "sample": done["sample"],
    }


def _tokenizer_entry(tokenizer: Tokenizer) -> dict[str, Any]:
    size = tokenizer.model_file.stat().st_size
    return {"file": TOKENIZER, "bytes": size, "sha256": tokenizer.sha256, "vocab_size": tokenizer.vocab_size}


@contextmanager
def _workers(workers: Workers | int | None, spec: Spec, base: Path) -> Iterator[Workers]:
    if isinstance(workers, Workers):
        yield workers
        return
    with here(workers or _useful_workers(spec, base)) as crew:
        yield crew


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _useful_workers(spec: Spec, base: Path) -> int:
    """Processes that pay off: none besides this one for small text, else one per processor."""
    files = {name for pair in spec.pairs for split in SPLITS for name in text_files(pair, split)}
    size = sum((base / name).stat().st_size for name in files)
    return 1 if size < _SMALL else _cpus()
