"""Which rank writes which parameter: a pure function of names, sizes and the ranks that hold them."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def assign_owners(sizes: Mapping[str, int], holders: Mapping[str, Collection[int]]) -> dict[str, int]:
    """Spreads parameters over the ranks that hold them, so that each writes about as much as the others.

    Args:
        sizes: elements of each parameter, by name.
        holders: the ranks that hold the parameter, or with ZeRO a piece of it, by name; at least one.

    Returns:
        The rank that writes each name. Where there is a choice: largest first, always to the rank with the least so
        far (ties: lowest rank).
    """
    load = {rank: 0 for ranks in holders.values() for rank in ranks}
    owners: dict[str, int] = {}
    for name in sorted(sizes, key=lambda name: (len(holders[name]) > 1, -sizes[name], name)):
        owner = min(holders[name], key=lambda rank: (load[rank], rank))
        owners[name] = owner
        load[owner] += sizes[name]
    return owners
