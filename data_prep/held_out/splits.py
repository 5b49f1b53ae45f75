"""Applies the selection to the spooled text of all pairs: which lines are training, validation and test text."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_prep.cleaning.clean import NEAR, PAIR, SRC_KEY, TGT_KEY
from data_prep.cleaning.dropper import Dropper
from data_prep.cleaning.duplicates import comparable_pairs, nearly_repeated, repeated
from data_prep.cleaning.hash_sets import distinct, first_occurrences, touches
from data_prep.cleaning.spool import Spool
from data_prep.held_out.selection import draw, held_out_sizes, keys_of
from data_prep.spec.sections import PairSpec, Spec
from smoe_ds.data.splits import HELD_OUT, SPLITS
from smoe_ds.errors import DataError

Spools = dict[tuple[str, str], Spool]
"""By pair and split, for the texts that the specification gives."""
Counts = dict[tuple[str, str], dict[str, Any]]
"""``read``, ``dropped``, ``noticed``, ``examples`` by pair and split."""
Droppers = dict[tuple[str, str], Dropper]


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
        counts: completed in place with what is dropped here, and examples of it.

    Returns:
        for every pair the parts ``train``, ``valid`` and ``test``; none that is neither given nor can be drawn from
        training text.

    Raises:
        DataError: a text that the specification gives has no sentence pair left.
    """
    droppers = {
        name: Dropper(spool, counts[name], spec.seed, np.ones(len(spool.hashes()), bool))
        for name, spool in spools.items()
    }
    parts: Parts = {name: Part(dropper.spool, dropper.mask) for name, dropper in droppers.items()}
    _drop_scripts(spec, droppers)
    _drop_duplicates(spec, droppers)
    given_valid = _keys(parts, "valid")
    for pair in spec.pairs:
        if pair.test is None:
            _draw(spec, pair, "test", droppers, given_valid, parts, counts)
    test_keys = _keys(parts, "test")
    for pair in spec.pairs:
        if pair.valid is None:
            _draw(spec, pair, "valid", droppers, test_keys, parts, counts)
        elif pair.valid:
            _drop_held_out(droppers[pair.pair, "valid"], test_keys)
    all_keys = distinct(np.concatenate([test_keys, _keys(parts, "valid")]))
    for pair in spec.pairs:
        if (pair.pair, "train") in droppers:
            train = droppers[pair.pair, "train"]
            _move(train, [parts[pair.pair, split].mask for split in HELD_OUT if getattr(pair, split) is None])
            _drop_held_out(train, all_keys)
    if empty := [text for pair in spec.pairs for text in _empty(pair, parts, counts)]:
        raise DataError("\n".join(empty))
    for dropper in droppers.values():
        dropper.close()
    return parts


def _drop_scripts(spec: Spec, droppers: Droppers) -> None:
    """Drops sentences of languages that nothing is known of, if they are in another script than most."""
    for (_, split), dropper in droppers.items():
        rows = np.flatnonzero(dropper.spool.other_script())
        if split == "train" and spec.clean.wrong_script == "drop":
            dropper.drop("wrong_script", rows)
        else:
            dropper.notice("other_script", len(rows))


def _drop_duplicates(spec: Spec, droppers: Droppers) -> None:
    """Drops training pairs that occurred before, exactly or nearly."""
    for group in comparable_pairs(spec.clean, spec.pairs):
        members = [droppers[pair.pair, "train"] for pair in group if (pair.pair, "train") in droppers]
        for name, setting, find in (
            ("duplicate", spec.clean.duplicates, lambda exact, _: repeated(exact)),
            ("near_duplicate", spec.clean.near_duplicates, lambda exact, near: nearly_repeated(near, exact)),
        ):
            for dropper, rows in zip(members, _found(members, find), strict=True):
                if setting == "drop":
                    dropper.drop(name, rows)
                else:
                    dropper.notice(f"{name}s", len(rows))


def _found(members: Sequence[Dropper], find: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> list[np.ndarray]:
    """Lines of several texts, searched as if they were one; ``find`` gets exact and near hashes."""
    rows = [dropper.rows() for dropper in members]
    hashes = [dropper.spool.hashes()[left][:, [PAIR, NEAR]] for dropper, left in zip(members, rows, strict=True)]
    exact, near = np.concatenate([np.empty((0, 2), np.uint64), *hashes]).T
    mask = find(exact, near)
    parts = np.split(mask, np.cumsum([len(left) for left in rows])[:-1]) if rows else []
    return [left[part] for left, part in zip(rows, parts, strict=True)]


def _keys(parts: Parts, split: str) -> np.ndarray:
    return keys_of([part.keys() for (_, name), part in parts.items() if name == split])


def _draw(
    spec: Spec,
    pair: PairSpec,
    split: str,
    droppers: Droppers,
    forbidden: np.ndarray,
    parts: Parts,
    counts: Counts,
) -> None:
    """Draws a split of a pair from its training text, if it has any."""
    dropper = droppers.get((pair.pair, "train"))
    if dropper is None:
        return
    hashes = dropper.spool.hashes()
    pivot_keys = hashes[:, pair.languages.index(spec.key_language(pair))]
    sentences = int(first_occurrences(pivot_keys[dropper.mask]).sum())
    valid_size, test_size = held_out_sizes(sentences, spec.held_out, valid=pair.valid is None, test=pair.test is None)
    same = hashes[:, SRC_KEY] == hashes[:, TGT_KEY]  # one sentence on both sides is no test of translation
    eligible = dropper.mask & ~same & ~touches(hashes[:, :2], forbidden)
    drawn = draw(pivot_keys, eligible, valid_size if split == "valid" else test_size, spec.seed)
    parts[pair.pair, split] = Part(dropper.spool, drawn)
    asked = getattr(spec.held_out, split)
    counts[pair.pair, split] = {
        "drawn": int(drawn.sum()),
        "asked": asked,
        "dropped": {},
        "noticed": {},
        "examples": {},
    }


def _move(train: Dropper, drawn: Sequence[np.ndarray]) -> None:
    """Takes out of training text what was drawn from it."""
    for mask in drawn:
        train.mask[mask] = False
    if moved := sum(int(mask.sum()) for mask in drawn):
        train.counts["moved"] = moved


def _drop_held_out(dropper: Dropper, keys: np.ndarray) -> None:
    """Takes out of a text what touches held-out keys."""
    rows = dropper.rows()
    dropper.drop("held_out", rows[touches(dropper.spool.hashes()[rows, :2], keys)])


def _empty(pair: PairSpec, parts: Parts, counts: Counts) -> Iterator[str]:
    """What is wrong with texts of a pair that have no sentence pair left."""
    for split in SPLITS:
        if getattr(pair, split) and not parts[pair.pair, split].mask.any():
            count = counts[pair.pair, split]
            dropped = ", ".join(f"{number} {reason}" for reason, number in count["dropped"].items()) or "none dropped"
            yield (
                f"no sentence pairs in the {split} text of {pair.pair}: {count['read']} read, {dropped}; "
                "check its files and the limits under 'clean'"
            )


def parts_fingerprint(parts: Parts, made_from: Mapping[tuple[str, str], str]) -> list[list[str]]:
    """What the training text of all pairs is made from, as JSON values."""
    return [
        [pair, made_from[pair, part.spool.split], hashlib.sha256(np.packbits(part.mask).tobytes()).hexdigest()]
        for (pair, split), part in sorted(parts.items(), key=lambda item: item[0])
        if split == "train"
    ]
