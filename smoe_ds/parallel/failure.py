"""What made a rank fail, and which rank failed first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

_LONGEST_TRACEBACK = 8000
# What the ranks left behind raise when a peer goes: gloo's, NCCL's and the store's words for it.
_ECHOES = (
    "connection closed by peer",
    "connection reset by peer",
    "connection refused",
    "broken pipe",
    "gloo/transport",
    "application timeout caused pair closure",
    "timed out waiting",
    "socket timeout",
    "failed to recv",
    "ncclremoteerror",
    "nccl communicator was aborted",
    "could not meet the others",
)


@dataclass(frozen=True)
class Failure:
    """The end of one rank that was not planned.

    Attributes:
        rank: the rank.
        host: its host.
        pid: its process.
        kind: "vanished" (ended without a word), "exception", "silent" (no sign of life, e.g. stopped), "stalled" (alive
            but longer at one thing than allowed), "lost" (its watcher went too, or cannot be reached), "refused" (a
            start that was not possible; nothing crashed).
        doing: what its main thread was at.
        seconds: for how long it had been [s].
        message: one line.
        traceback: of the exception, or of where the rank stood; "" if nobody could tell.
        echo: another rank's failure as this one saw it, e.g. a closed connection, or a wait for it without end.
    """

    rank: int
    host: str
    pid: int
    kind: str
    doing: str
    seconds: float
    message: str
    traceback: str = ""
    echo: bool = False

    def as_json(self) -> dict[str, Any]:
        """The fields, with a traceback that is not too long for a beat."""
        return asdict(self) | {"traceback": self.traceback[-_LONGEST_TRACEBACK:]}


def is_echo(error: BaseException) -> bool:
    """Whether an exception only tells that another rank is gone."""
    seen: BaseException | None = error
    while seen is not None:
        text = f"{type(seen).__name__}: {seen}".lower()
        if any(words in text for words in _ECHOES):
            return True
        seen = seen.__cause__
    return False


def first_failure(failures: Mapping[int, Failure]) -> Failure:
    """The failure that brought the others about.

    Args:
        failures: by rank, in the order in which they were heard of.

    Returns:
        The first one heard of that is no echo of another's; the first one if all are.
    """
    heard = list(failures.values())
    return next((failure for failure in heard if not failure.echo), heard[0])
