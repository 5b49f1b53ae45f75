"""Exact and near duplicates within a pair and across pairs, decided on hashes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_prep.cleaning.hash_sets import first_occurrences, suspects
from data_prep.languages.codes import same_language
from data_prep.spec.sections import Clean, PairSpec


def comparable_pairs(clean: Clean, pairs: Sequence[PairSpec]) -> list[list[PairSpec]]:
    """Groups of pairs whose text is searched for duplicates together, each in the specification's order."""
    groups: dict[tuple[str, ...], list[PairSpec]] = {}
    for pair in pairs:
        names = sorted(same_language(language, clean.same_languages) for language in pair.languages)
        group = {"pair": (pair.pair,), "same_languages": tuple(names), "all": ()}[clean.duplicates_across]
        groups.setdefault(group, []).append(pair)
    return list(groups.values())


def repeated(exact: np.ndarray) -> np.ndarray:
    """Pairs that occurred before, bool [N]; ``exact`` is the hash of each pair, uint64 [N]."""
    return ~first_occurrences(exact)


def nearly_repeated(near: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Pairs that occurred before in nearly the same form.

    Args:
        near: hash that nearly equal pairs share, uint64 [N].
        exact: hash of each pair, uint64 [N].

    Returns:
        bool [N]: not the first of its near hash, nor equal to that first one.
    """
    rows = suspects(near)
    order = rows[np.argsort(near[rows], kind="stable")]
    begins = np.ones(len(order), bool)
    begins[1:] = near[order[1:]] != near[order[:-1]]
    first = order[begins]
    first_of = np.repeat(first, np.diff(np.append(np.flatnonzero(begins), len(order))))
    mask = np.zeros(len(near), bool)
    mask[order] = exact[order] != exact[first_of]
    return mask
