"""Which rank writes which parameter: a pure function of names, sizes and the ranks that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def assign_owners(sizes: Mapping[str, int], ranks: Sequence[int]) -> dict[str, int]:
    """Spreads parameters over the ranks that hold them, so that each writes about as much as the others.

    Args:
        sizes: elements of each parameter, by name.
        ranks: ranks that hold all of these parameters (or a piece of each).

    Returns:
        The rank that writes each name: largest first, always to the rank with the least so far (ties: lowest rank).
    """
    load = dict.fromkeys(sorted(ranks), 0)
    owners: dict[str, int] = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        owner = min(load, key=lambda rank: (load[rank], rank))
        owners[name] = owner
        load[owner] += sizes[name]
    return owners
