"""Applies the selection to the spooled text of all pairs: which lines are training, validation and test text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from data_prep.selection import draw, first_occurrences, held_out_sizes, keys_of, touches
from data_prep.spec import PairSpec, Spec
from data_prep.spool import PAIR, Spool
from smoe_ds.errors import DataError

Spools = dict[tuple[str, str], Spool]
"""By pair and split, for the texts that the specification gives."""
Counts = dict[tuple[str, str], dict[str, Any]]
"""``read``, ``dropped``, ``noticed`` by pair and split."""


@dataclass
class Part:
    """A split of a pair: the lines of a spool for which ``mask`` is true."""

    spool: Spool
    mask: np.ndarray

    def keys(self) -> np.ndarray:
        """Keys of both sides, uint64 [n, 2]."""
        return self.spool.hashes()[self.mask, :2]


Parts = dict[tuple[str, str], Part]


def split_corpus(spec: Spec, spools: Spools, counts: Counts) -> Parts:
    """Divides the text of all pairs.

    Test text is settled first, over all pairs; validation text must not touch it; training text neither.

    Args:
        spec: the specification.
        spools: the cleaned text.
        counts: completed in place with what is dropped here.

    Returns:
        for every pair the parts ``train``, ``valid`` and ``test``.

    Raises:
        DataError: a text that the specification gives has no sentence pair left.
    """
    parts: Parts = {}
    usable = {pair.pair: _usable(spec, spools[pair.pair, "train"], counts[pair.pair, "train"]) for pair in spec.pairs}
    for pair in spec.pairs:
        for split in ("valid", "test"):
            if getattr(pair, split) is not None:
                spool = spools[pair.pair, split]
                parts[pair.pair, split] = Part(spool, np.ones(len(spool.hashes()), bool))
    given_valid = _keys(parts, "valid")
    for pair in spec.pairs:
        if pair.test is None:
            _draw(spec, pair, "test", spools, usable, given_valid, parts, counts)
    test_keys = _keys(parts, "test")
    for pair in spec.pairs:
        if pair.valid is None:
            _draw(spec, pair, "valid", spools, usable, test_keys, parts, counts)
        else:
            _drop(parts[pair.pair, "valid"], test_keys, counts[pair.pair, "valid"])
    all_keys = np.union1d(test_keys, _keys(parts, "valid"))
    for pair in spec.pairs:
        train = Part(spools[pair.pair, "train"], usable[pair.pair])
        drawn = sum(counts[pair.pair, split].get("drawn", 0) for split in ("valid", "test"))
        _drop(train, all_keys, counts[pair.pair, "train"], drawn)
        parts[pair.pair, "train"] = train
        _check_not_empty(pair, parts, counts)
    return parts


def _usable(spec: Spec, spool: Spool, counts: dict[str, Any]) -> np.ndarray:
    """Training lines that are neither in a wrong script nor duplicates, bool [N]."""
    hashes = spool.hashes()
    mask = np.ones(len(hashes), bool)
    if spec.clean.wrong_script == "drop":
        mask = ~spool.other_script()
        _count(counts, "wrong_script", int((~mask).sum()))
    rows = np.flatnonzero(mask)
    repeated = rows[~first_occurrences(hashes[rows, PAIR])]
    if spec.clean.duplicates == "drop":
        mask[repeated] = False
        _count(counts, "duplicate", len(repeated))
    elif len(repeated):
        counts["noticed"]["duplicates"] = len(repeated)
    return mask


def _count(counts: dict[str, Any], reason: str, number: int) -> None:
    if number:
        counts["dropped"][reason] = counts["dropped"].get(reason, 0) + number


def _keys(parts: Parts, split: str) -> np.ndarray:
    return keys_of([part.keys() for (_, name), part in parts.items() if name == split])


def _draw(
    spec: Spec,
    pair: PairSpec,
    split: str,
    spools: Spools,
    usable: dict[str, np.ndarray],
    forbidden: np.ndarray,
    parts: Parts,
    counts: Counts,
) -> None:
    """Draws a split of a pair from its training text."""
    spool, mask = spools[pair.pair, "train"], usable[pair.pair]
    hashes = spool.hashes()
    pivot_keys = hashes[:, pair.languages.index(spec.key_language(pair))]
    valid_size, test_size = held_out_sizes(
        len(np.unique(pivot_keys[mask])), spec.held_out, valid=pair.valid is None, test=pair.test is None
    )
    eligible = mask & ~touches(hashes[:, :2], forbidden)
    drawn = draw(pivot_keys, eligible, valid_size if split == "valid" else test_size, spec.seed)
    parts[pair.pair, split] = Part(spool, drawn)
    asked = getattr(spec.held_out, split)
    counts[pair.pair, split] = {"drawn": int(drawn.sum()), "asked": asked, "dropped": {}, "noticed": {}}


def _drop(part: Part, keys: np.ndarray, counts: dict[str, Any], drawn: int = 0) -> None:
    """Takes out of a part what touches held-out keys; counts it, but for what was drawn from it."""
    rows = np.flatnonzero(part.mask)
    leaking = rows[touches(part.keys(), keys)]
    mask = part.mask.copy()
    mask[leaking] = False
    part.mask = mask
    _count(counts, "held_out", len(leaking) - drawn)
    if drawn:
        counts["moved"] = drawn


def _check_not_empty(pair: PairSpec, parts: Parts, counts: Counts) -> None:
    for split in ("train", "valid", "test"):
        if getattr(pair, split) is not None and not parts[pair.pair, split].mask.any():
            count = counts[pair.pair, split]
            dropped = ", ".join(f"{number} {reason}" for reason, number in count["dropped"].items()) or "none dropped"
            raise DataError(
                f"no sentence pairs in the {split} text of {pair.pair}: {count['read']} read, {dropped}; "
                "check its files and the limits under 'clean'"
            )
