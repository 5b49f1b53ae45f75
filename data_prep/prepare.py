"""The whole preparation: read and clean, split, train the vocabulary, write shards and manifest.

Two passes over the text. The first cleans it into a temporary folder with three hashes a pair; everything that concerns
the corpus as a whole is decided on the hashes (24 bytes a sentence pair). The second encodes what was kept.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

from data_prep.encode import encode_pair
from data_prep.load_spec import check_files
from data_prep.output import building, find_finished, left_over
from data_prep.progress import Progress
from data_prep.readers import source_files
from data_prep.report import warnings_of
from data_prep.spec import PairSpec, Spec
from data_prep.splits import Counts, Part, Parts, Spools, split_corpus
from data_prep.spool import Spool, spool_text
from data_prep.vocabulary import train_vocabulary
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.shards import FORMAT, MANIFEST, SPLITS, VERSION, HashedFile, sha256_of
from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.errors import DataError

PREPARATION_VERSION = 1
"""Raised when the same specification and text would give another corpus, so that old results are not reused."""
TOKENIZER = "tokenizer.model"
Result = TypeVar("Result")


def prepare(
    spec: Spec,
    base: Path,
    output: Path,
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[Corpus, bool]:
    """Prepares a corpus, or finds it prepared.

    Args:
        spec: the specification.
        base: folder that its relative paths are relative to.
        output: folder to write; appears only when it is complete.
        overwrite: replace an earlier result.
        workers: processes to use, a pair each; None: as many as pay off here. The result does not depend on it.
        progress: where to say what is going on.

    Returns:
        the corpus, and whether it was there already (verified, from the same specification and inputs).

    Raises:
        DataError: an input is missing, damaged or empty, or the output holds something else.
    """
    progress = progress or Progress(quiet=True)
    content = spec.model_dump(mode="json", exclude={"output"})
    spec_sha256 = hashlib.sha256(json.dumps([PREPARATION_VERSION, content]).encode()).hexdigest()
    finished = find_finished(output, content, spec_sha256, base, overwrite=overwrite)
    if finished is not None:
        return finished, True
    check_files(spec, base)
    for path in left_over(output):
        progress.say(f"note: {path} belongs to another preparation; if none is running, remove it")
    workers = workers or _useful_workers(spec, base)
    with building(output) as folder:
        manifest = _build(spec, base, folder, workers, progress)
        manifest |= {"spec": content, "spec_sha256": spec_sha256}
        file = HashedFile(folder / MANIFEST)
        file.write(json.dumps(manifest, ensure_ascii=False, indent=1).encode("utf-8") + b"\n")
        file.close()
    return Corpus(output, verify=False), False


def _build(spec: Spec, base: Path, folder: Path, workers: int, progress: Progress) -> dict[str, Any]:
    """Writes everything but the manifest, which it returns."""
    work = folder / "work"
    work.mkdir()
    spools, counts, inputs = _read_all(spec, base, work, workers, progress)
    parts = split_corpus(spec, spools, counts)
    tokenizer, vocabulary = _vocabulary(spec, base, folder, parts, progress)
    splits = _write_all(spec, parts, counts, folder, workers, progress)
    shutil.rmtree(work)
    report = {pair.pair: {split: counts[pair.pair, split] for split in SPLITS} for pair in spec.pairs}
    return {
        "format": FORMAT,
        "version": VERSION,
        "tokenizer": tokenizer,
        "languages": list(spec.languages),
        "pairs": [pair.pair for pair in spec.pairs],
        "splits": splits,
        "vocabulary": vocabulary,
        "report": report,
        "warnings": list(warnings_of(report, vocabulary)),
        "inputs": inputs,
    }


def _read_all(
    spec: Spec, base: Path, work: Path, workers: int, progress: Progress
) -> tuple[Spools, Counts, list[dict[str, Any]]]:
    """Cleans the text of all pairs; returns it with its counts, and the input files with their hashes."""
    spools: Spools = {}
    counts: Counts = {}
    inputs: dict[str, dict[str, Any]] = {}
    tasks = ((pair.pair, (spec, pair, base, work, progress)) for pair in spec.pairs)
    for name, (texts, files) in _each(_read_pair, tasks, workers):
        for split, (spool, count) in texts.items():
            spools[name, split], counts[name, split] = spool, count
        inputs |= files
        progress.say(f"{name}: {counts[name, 'train']['read']:,} training pairs read")
    return spools, counts, [inputs[name] for name in sorted(inputs)]


def _write_all(
    spec: Spec, parts: Parts, counts: Counts, folder: Path, workers: int, progress: Progress
) -> dict[str, dict[str, Any]]:
    """Encodes and writes all pairs; completes the counts and returns the manifest's entries by split and pair."""
    tasks = ((pair.pair, (spec, pair, _parts_of(pair, parts), folder, workers, progress)) for pair in spec.pairs)
    written = dict(_each(_encode_pair, tasks, workers))
    splits: dict[str, dict[str, Any]] = {split: {} for split in SPLITS}
    for pair in spec.pairs:
        for split, (entry, too_many_pieces) in written[pair.pair].items():
            splits[split][pair.pair] = entry
            if too_many_pieces:
                counts[pair.pair, split]["dropped"]["too_many_pieces"] = too_many_pieces
            if getattr(pair, split) is not None and not entry["sentences"]:
                limit = spec.clean.max_pieces
                raise DataError(f"no sentence pairs in the {split} text of {pair.pair}: all exceed max_pieces {limit}")
    return splits


def _read_pair(
    spec: Spec, pair: PairSpec, base: Path, work: Path, progress: Progress
) -> tuple[dict[str, tuple[Spool, dict[str, Any]]], dict[str, dict[str, Any]]]:
    """Cleans the texts of a pair into the temporary folder, and hashes its input files."""
    progress.start()
    texts, inputs = {}, {}
    for split in SPLITS:
        sources = getattr(pair, split)
        if sources is None:
            continue
        texts[split] = spool_text(
            spec, pair, split, base, work, lambda number: progress.tick(f"{pair.pair}: reading", number)
        )
        for name in (name for source in sources for name in source_files(source)):
            path = base / name
            inputs[name] = {"file": name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
    return texts, inputs


def _vocabulary(
    spec: Spec, base: Path, folder: Path, parts: Parts, progress: Progress
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Trains or copies the SentencePiece model; returns its entry in the manifest and how it came about."""
    settings = spec.sentencepiece
    requested, sample = settings.vocab_size, None
    if settings.model is None:
        progress.say(f"training the vocabulary of {requested:,} pieces")
        model, sample = train_vocabulary(spec, parts)
    else:
        source = Tokenizer(base / settings.model)
        model, requested = source.model_file.read_bytes(), source.vocab_size
        for language in spec.languages:
            source.language_id(language)
    file = HashedFile(folder / TOKENIZER)
    file.write(model)
    entry = file.close()
    pieces = Tokenizer(folder / TOKENIZER).vocab_size
    return {**entry, "vocab_size": pieces}, {"requested": requested, "pieces": pieces, "sample": sample}


def _parts_of(pair: PairSpec, parts: Parts) -> dict[str, Part]:
    return {split: parts[pair.pair, split] for split in SPLITS}


def _encode_pair(
    spec: Spec, pair: PairSpec, parts: dict[str, Part], folder: Path, workers: int, progress: Progress
) -> dict[str, tuple[dict[str, Any], int]]:
    progress.start()
    tokenizer = Tokenizer(folder / TOKENIZER)
    threads = max(1, _cpus() // workers)
    entries = encode_pair(
        spec, pair, parts, folder, tokenizer, threads, lambda n: progress.tick(f"{pair.pair}: encoding", n)
    )
    progress.say(f"{pair.pair}: {entries['train'][0]['sentences']:,} training pairs written")
    return entries


def _each(
    function: Callable[..., Result], tasks: Iterator[tuple[str, tuple[Any, ...]]], workers: int
) -> Iterator[tuple[str, Result]]:
    """Calls a function for every named task, in this process or in several; yields results as they come."""
    if workers == 1:
        for name, arguments in tasks:
            yield name, function(*arguments)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(function, *arguments): name for name, arguments in tasks}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _useful_workers(spec: Spec, base: Path) -> int:
    """Processes that pay off: none besides this one for small text, else one per processor, at most one a pair."""
    files = {name for pair in spec.pairs for source in pair.train for name in source_files(source)}
    size = sum((base / name).stat().st_size for name in files)
    return 1 if size < 32 << 20 else max(1, min(_cpus(), len(spec.pairs), 32))
