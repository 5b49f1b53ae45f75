"""The stages of a preparation, each a set of tasks that any process can do: hash, read and clean, encode, write."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.assemble import CORPUS, Encoded, plan_shards, write_shard, write_text
from data_prep.clean import NOTICES
from data_prep.encode import Encoding, encode_piece
from data_prep.examples import merged
from data_prep.exchanged import exchanged_texts
from data_prep.pieces import Pieces
from data_prep.progress import Progress
from data_prep.reading import Text, clean_raw, notice, text_files, try_to_read
from data_prep.spec import Spec
from data_prep.splits import Counts, Part, Parts, Spools
from data_prep.spool import Spool
from data_prep.workers import Workers
from smoe_ds.data.manifest import SPLITS
from smoe_ds.data.shards import sha256_of
from smoe_ds.errors import DataError


@dataclass(frozen=True)
class Run:
    """What all stages need.

    Attributes:
        spec: the specification.
        base: folder that its relative paths are relative to.
        pieces: finished pieces.
        workers: processes that work.
        progress: where to say what is going on.
        piece_size: sentence pairs read per piece; the result does not depend on it.
        num_threads: threads that encode in a process; nor does it on this.
    """

    spec: Spec
    base: Path
    pieces: Pieces
    workers: Workers
    progress: Progress
    piece_size: int
    num_threads: int


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; copy or download it again") from error


class Inputs:
    """The files that the texts are read from, by name, with what they hold."""

    def __init__(self, run: Run) -> None:
        """Hashes all files."""
        self._base = run.base
        names = {name for pair in run.spec.pairs for split in SPLITS for name in text_files(pair, split)}
        self._seen = {name: self._state(name) for name in sorted(names)}
        for name in self._seen:
            run.workers.submit(("hashing", name), _sha256, run.base / name)
        sha256 = {name: digest for (_, name), digest in run.workers.results()}
        self.entries = {name: {"file": name, "bytes": size, "sha256": sha256[name]}
                        for name, (size, _) in self._seen.items()}  # fmt: skip

    def _state(self, name: str) -> tuple[int, int]:
        state = (self._base / name).stat()
        return state.st_size, state.st_mtime_ns

    def check_unchanged(self) -> None:
        """Makes sure that what was read is what was hashed.

        Raises:
            DataError: a file changed in size or time of modification.
        """
        for name, seen in self._seen.items():
            if self._state(name) != seen:
                raise DataError(f"{self._base / name}: changed while it was read; run the same command again")


def read_all(run: Run, inputs: Inputs) -> tuple[Spools, Counts, dict[tuple[str, str], str]]:
    """Reads and cleans all texts; returns them with their counts and fingerprints, by pair and split."""
    texts = {
        text.name: text
        for pair in run.spec.pairs
        for split in SPLITS
        if getattr(pair, split)
        for text in [Text.of(run.spec, pair, split, run.base, run.piece_size, inputs.entries)]
    }
    _Reading(run, texts).finish()
    inputs.check_unchanged()
    spools, counts = {}, {}
    for text in texts.values():
        spools[text.pair.pair, text.split], counts[text.pair.pair, text.split] = _collect(run.pieces, text)
    _notice(run, spools, counts)
    return spools, counts, {(text.pair.pair, text.split): text.made_from for text in texts.values()}


class _Reading:
    """Keeps the workers busy: a few texts are read at a time, and their pieces cleaned as they come."""

    def __init__(self, run: Run, texts: Mapping[str, Text]) -> None:
        self._run, self._texts = run, texts
        self._waiting = list(texts)
        self._read: set[str] = set()
        self._raw: set[tuple[str, int]] = set()
        self._num_cleaned = 0
        self._errors: dict[str, str] = {}

    def finish(self) -> None:
        """Reads and cleans all texts; once one of them cannot be read, the rest is read, to name all of these at once.

        Raises:
            DataError: texts cannot be read; a line each.
        """
        for (what, name, *_), result in self._run.workers.results(self._feed):
            if what == "reading":
                self._read.discard(name)
                if "error" in result:
                    self._errors[name] = result["error"]
                    self._run.progress.say(f"{result['error']}; looking at the other texts")
                else:
                    self._clean(name, result["raw"])
            else:
                self._num_cleaned += 1
            left = len(self._waiting) + len(self._read)
            self._run.progress.tick(f"{left} texts to read, {self._num_cleaned} of {len(self._raw)} pieces cleaned")
        if self._errors:
            raise DataError("\n".join(self._errors[name] for name in self._texts if name in self._errors))

    def _feed(self) -> None:
        workers = self._run.workers
        while self._waiting and workers.pending < 2 * workers.number:
            name = self._waiting.pop(0)
            self._read.add(name)
            workers.submit(("reading", name), try_to_read, self._run.pieces, self._texts[name])
        for name in self._read:
            self._clean(name, [int(raw[-5:]) for raw in self._run.pieces.names(f"raw/{name}")])

    def _clean(self, name: str, numbers: list[int]) -> None:
        for number in numbers:
            if (name, number) not in self._raw and not self._errors:
                self._raw.add((name, number))
                text = self._texts[name]
                self._run.workers.submit(
                    ("cleaning", name, f"piece {number}"), clean_raw, self._run.pieces, text, number
                )


def _collect(pieces: Pieces, text: Text) -> tuple[Spool, dict[str, Any]]:
    """A text as a whole: its spool, and the sums of its counts."""
    read = pieces.result(f"read/{text.name}")
    results = [pieces.result(text.piece(number)) for number in range(read["pieces"])]
    spool = Spool(pieces.root, text.pair.languages, text.split, tuple(result["kept"] for result in results))
    counts: dict[str, Any] = {"read": 0, "dropped": {}, "noticed": {}}
    for part in [{"noticed": read["notes"]["noticed"]}, *(result["counts"] for result in results)]:
        _add(counts, {key: value for key, value in part.items() if key != "examples"})
    noticed = counts["noticed"]  # in an order that does not depend on what was found first, and so not on the pieces
    counts["noticed"] = {name: noticed[name] for name in NOTICES if name in noticed}
    counts["examples"] = merged(result["counts"]["examples"] for result in results)
    if read["notes"]["places"]:
        counts["places"] = read["notes"]["places"]
    return spool, counts


def _add(total: dict[str, Any], part: Mapping[str, Any]) -> None:
    """Adds counts, key by key."""
    for key, value in part.items():
        if isinstance(value, dict):
            _add(total.setdefault(key, {}), value)
        else:
            total[key] = total.get(key, type(value)()) + value


def _notice(run: Run, spools: Spools, counts: Counts) -> None:
    for key, spool in spools.items():
        run.workers.submit(("looking at", *key), notice, spool)
    sides = {(pair, split): found for (_, pair, split), found in run.workers.results()}
    for key in exchanged_texts(sides, run.spec.clean.same_languages):
        sides[key] = replace(sides[key], swapped=max(0, sum(spools[key].sizes) - sides[key].swapped))
    for key, found in sides.items():
        if found.swapped:
            counts[key]["noticed"]["swapped"] = found.swapped


def encode_all(
    run: Run, parts: Parts, counts: Counts, made_from: Mapping[tuple[str, str], str], model_sha256: str
) -> dict[tuple[str, str], list[Encoded]]:
    """Encodes all parts, completes their counts, and returns the encoded pieces of each part in order."""
    encodings = {}
    for spool, group in _by_spool(parts):
        text_made_from = made_from["-".join(spool.languages), spool.split]
        model = run.pieces.root / CORPUS / "tokenizer.model"
        for piece in range(len(spool.sizes)):
            start, stop = spool.bounds(piece)
            masks = {split: part.mask[start:stop] for split, part in group.items() if part.mask[start:stop].any()}
            if masks:
                limit = run.spec.clean.max_pieces
                encoding = Encoding.of(spool, piece, masks, limit, model, model_sha256, text_made_from)
                encodings[encoding.name] = encoding
    for name, encoding in sorted(encodings.items(), key=lambda item: -_num_lines(item[1])):  # large ones first
        run.workers.submit(("encoding", name), encode_piece, run.pieces, encoding, run.num_threads)
    results: dict[str, dict[str, Any]] = {}
    for (_, name), result in run.workers.results():
        results[name] = result
        run.progress.tick(f"{len(results)} of {len(encodings)} pieces encoded")
    encoded: dict[tuple[str, str], list[Encoded]] = defaultdict(list)
    for name, encoding in encodings.items():
        pair = "-".join(encoding.spool.languages)
        for split, result in results[name].items():
            encoded[pair, split].append(Encoded(name, encoding.made_from, split, tuple(result["lengths"])))
            if result["too_many_pieces"]:
                count = counts[pair, split]
                _add(count, {"dropped": {"too_many_pieces": result["too_many_pieces"]}})
                count["examples"] = merged([count["examples"], result["examples"]])
    return encoded


def _num_lines(encoding: Encoding) -> int:
    return sum(int(mask.sum()) for mask in encoding.masks.values())


def _by_spool(parts: Parts) -> Iterator[tuple[Spool, dict[str, Part]]]:
    groups: dict[Spool, dict[str, Part]] = defaultdict(dict)
    for (_, split), part in parts.items():
        groups[part.spool][split] = part
    yield from groups.items()


def write_all(run: Run, encoded: Mapping[tuple[str, str], list[Encoded]], vocab_size: int) -> dict[str, dict[str, Any]]:
    """Writes all shards and held-out texts; returns the manifest's entries by split and pair."""
    for pair in run.spec.pairs:
        for split in SPLITS:
            pieces = encoded.get((pair.pair, split), [])
            for shard in plan_shards(pair.pair, split, vocab_size, pieces, run.spec.shards.sentences):
                run.workers.submit(("writing", split, pair.pair, shard.number), write_shard, run.pieces, shard)
            if split != "train":
                run.workers.submit(
                    ("writing", split, pair.pair, "text"), write_text, run.pieces, pair.pair, split, pieces
                )
    written = dict(run.workers.results())
    return {split: {pair.pair: _entry(split, pair.pair, written) for pair in run.spec.pairs} for split in SPLITS}


def _entry(split: str, pair: str, written: Mapping[tuple[Any, ...], dict[str, Any]]) -> dict[str, Any]:
    numbers = sorted(key[3] for key in written if key[1:3] == (split, pair) and key[3] != "text")
    shards = [written["writing", split, pair, number] for number in numbers]
    entry = {
        "sentences": sum(shard["sentences"] for shard in shards),
        "tokens": {name: sum(shard["sides"][name]["tokens"] for shard in shards) for name in pair.split("-")},
        "shards": shards,
    }
    text = written.get(("writing", split, pair, "text"))
    return entry | ({"text": text} if text is not None else {})


def parts_fingerprint(parts: Parts, made_from: Mapping[tuple[str, str], str]) -> list[list[str]]:
    """What the training text of all pairs is made from, as JSON values."""
    return [
        [pair, made_from[pair, part.spool.split], hashlib.sha256(np.packbits(part.mask).tobytes()).hexdigest()]
        for (pair, split), part in sorted(parts.items(), key=lambda item: item[0])
        if split == "train"
    ]
