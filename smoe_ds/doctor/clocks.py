"""How far the hosts' clocks are apart: round trips to rank 0, as NTP measures it."""

from __future__ import annotations

from collections.abc import Iterator

from smoe_ds.doctor.context import Context
from smoe_ds.doctor.finding import NOTE, OK, SKIPPED, Finding

_TRIPS = 5
_MOST = 1.0  # seconds apart beyond which ages of files and times of logs mislead


def check_clocks(context: Context) -> Iterator[Finding]:
    """Rank 0 answers the first rank of every other host; each host reports how far it is from rank 0."""
    meeting, env = context.meeting, context.env
    others = [rank for rank in meeting.speakers if rank > 0]
    if not others:
        yield Finding(SKIPPED, "skipped because all ranks share one host's clock", scope="run")
        return
    if env.rank == 0:
        for rank in others:
            if rank not in meeting.absent:
                _answer(context, rank)
    elif env.rank in others:
        yield clock_finding(*_ask(context))


def clock_finding(ahead: float, uncertain: float) -> Finding:
    """What a clock's distance means.

    Args:
        ahead: of rank 0's clock [s].
        uncertain: half of the fastest round trip [s].
    """
    figures = {"apart": abs(ahead), "uncertain": uncertain}
    if abs(ahead) - uncertain > _MOST:
        way = "ahead of" if ahead > 0 else "behind"
        return Finding(
            NOTE,
            f"its clock is {{apart:seconds}} {way} rank 0's",
            "synchronise the clocks (NTP). Training works, but times in logs and ages of files will mislead you",
            figures,
            scope="host",
        )
    return Finding(
        OK, "its clock is {apart:seconds} from rank 0's (± {uncertain:seconds})", figures=figures, scope="host"
    )


def _answer(context: Context, rank: int) -> None:
    """Rank 0's side for one host; one that says nothing is passed over."""
    for trip in range(_TRIPS):
        if context.meeting.read(f"clock/{rank}/{trip}/asked", context.seconds / 8) is None:
            return
        context.meeting.store.set(f"clock/{rank}/{trip}/answer", repr(context.clock()))


def _ask(context: Context) -> tuple[float, float]:
    """How far this clock is ahead of rank 0's, and half of the fastest round trip [s]; that trip counts."""
    trips = []
    for trip in range(_TRIPS):
        key = f"clock/{context.env.rank}/{trip}"
        before = context.clock()
        context.meeting.store.set(f"{key}/asked", "1")
        answer = context.meeting.read(f"{key}/answer", context.seconds / 2)
        if answer is None:
            raise TimeoutError(f"rank 0 did not answer within {context.seconds / 2:g} s")
        after = context.clock()
        trips.append((after - before, (before + after) / 2 - answer))
    length, ahead = min(trips)
    return ahead, length / 2
