"""Who has come to a start of a run, as far as the run folder tells: for the error of ranks that could not meet."""

from __future__ import annotations

from pathlib import Path

from smoe_ds.watch.beats import beat_file, read_beat


def roll_call(alive: Path, rank: int, world_size: int, recent: float) -> str:
    """Which ranks were not started, or, if all were, on which hosts they are.

    Args:
        alive: folder of the beats of this start.
        rank: the rank that asks; its own beat is the clock.
        world_size: number of ranks.
        recent: a beat older than that by the file system's clock is an earlier start's [s].

    Returns:
        A sentence for the end of an error.
    """
    hosts: dict[str, list[int]] = {}
    missing = []
    try:
        now = beat_file(alive, rank).stat().st_mtime
    except OSError:
        return "it is not known which ranks came"
    for other in range(world_size):
        path = beat_file(alive, other)
        try:
            host = str((read_beat(path) or {}).get("host", "a host")) if path.stat().st_mtime > now - recent else None
        except OSError:
            host = None
        if host is None:
            missing.append(other)
        else:
            hosts.setdefault(host, []).append(other)
    there = "; ".join(f"{host}: {_ranks(ranks)}" for host, ranks in hosts.items())
    if not missing:
        return f"all were started ({there}), so these hosts do not reach each other"
    return f"{_ranks(missing)} did not come ({there}): start them too, with the same run folder"


def _ranks(ranks: list[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
