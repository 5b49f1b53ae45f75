"""Goes through the checks on all ranks, in step, each within its deadline; rank 0 hears of every finding."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from smoe_ds.doctor.context import Context
from smoe_ds.doctor.finding import FAILED, Finding
from smoe_ds.doctor.merge import Line, merge
from smoe_ds.text_line import first_line

_GRACE = 15.0  # seconds beyond a check's own deadline in which its findings arrive


@dataclass(frozen=True)
class Check:
    """A check.

    Attributes:
        name: short; the first column of the report.
        look: does it on one rank; the same calls to the meeting on every rank, whatever is found.
        patience: how many times the usual deadline it may take.
    """

    name: str
    look: Callable[[Context], Iterable[Finding]]
    patience: float = 1.0


def examine(context: Context, checks: Sequence[Check]) -> Iterator[Line]:
    """Runs every check on this rank, and yields the merged lines of all of them on rank 0, none on others.

    A check that raises, or does not come to an end, is a cross of this rank, never the end of the examination. A rank
    that does not answer is a cross too.
    """
    meeting = context.meeting
    for number, check in enumerate(checks):
        seconds = context.seconds * check.patience
        known_absent = set(meeting.absent)
        found = [asdict(finding) for finding in within(seconds, check.look, context)]
        answers = meeting.collect(f"check/{number}", found, seconds + _GRACE)
        if answers is None:
            continue
        heard = {
            rank: [Finding.from_json(one) for one in answer]
            for rank, answer in enumerate(answers)
            if answer is not None
        }
        yield from merge(check.name, heard, meeting.hosts)
        if silent := sorted(meeting.absent - known_absent):
            yield from merge(check.name, {rank: [_silent(seconds + _GRACE)] for rank in silent}, meeting.hosts)


def within(seconds: float, look: Callable[[Context], Iterable[Finding]], context: Context) -> list[Finding]:
    """What a check finds, or that it failed; a thread that hangs, as on a dead network disk, is left behind."""
    found: list[Finding] = []
    done = threading.Event()

    def work() -> None:
        try:
            found.extend(look(context))
        except Exception as error:
            found.append(_crash(error))
        done.set()

    threading.Thread(target=work, name="doctor", daemon=True).start()
    if not done.wait(seconds):
        return [
            Finding(
                FAILED,
                f"did not finish within {seconds:g} s",
                "look for a disk or network that hangs; --timeout allows it more time",
            )
        ]
    return found


def _crash(error: Exception) -> Finding:
    return Finding(FAILED, f"the check itself failed: {type(error).__name__}: {first_line(str(error))}")


def _silent(seconds: float) -> Finding:
    return Finding(
        FAILED, f"no answer within {seconds:g} s", "see the output of these ranks; their processes may have died"
    )
