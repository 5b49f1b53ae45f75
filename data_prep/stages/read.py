"""Second stage: all texts are read, cut into pieces and cleaned, and each text is looked at as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from data_prep.cleaning.clean import NOTICES
from data_prep.cleaning.examples import merged
from data_prep.cleaning.exchanged import exchanged_texts
from data_prep.cleaning.spool import Spool
from data_prep.held_out.splits import Counts, Spools
from data_prep.stages.counts import add_counts
from data_prep.stages.hash import Inputs
from data_prep.stages.pieces import Pieces
from data_prep.stages.read_piece import Text, clean_raw, notice, try_to_read
from data_prep.stages.run import Run
from smoe_ds.data.splits import SPLITS
from smoe_ds.errors import DataError


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
        add_counts(counts, {key: value for key, value in part.items() if key != "examples"})
    noticed = counts["noticed"]  # in an order that does not depend on what was found first, and so not on the pieces
    counts["noticed"] = {name: noticed[name] for name in NOTICES if name in noticed}
    counts["examples"] = merged(result["counts"]["examples"] for result in results)
    if read["notes"]["places"]:
        counts["places"] = read["notes"]["places"]
    return spool, counts


def _notice(run: Run, spools: Spools, counts: Counts) -> None:
    for key, spool in spools.items():
        run.workers.submit(("looking at", *key), notice, spool)
    sides = {(pair, split): found for (_, pair, split), found in run.workers.results()}
    for key in exchanged_texts(sides, run.spec.clean.same_languages):
        sides[key] = replace(sides[key], swapped=max(0, sum(spools[key].sizes) - sides[key].swapped))
    for key, found in sides.items():
        if found.swapped:
            counts[key]["noticed"]["swapped"] = found.swapped
