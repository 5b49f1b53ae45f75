"""What made a rank fail, and which rank failed first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

_LONGEST_TRACEBACK = 8000
_TOGETHER = 2.0  # seconds within which a launcher ends all ranks of a host when one of them goes
_ONLY_SEEN = "it is not known which rank failed first, this one only saw another go or waited for it"
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
        ended: when the process ended, on its host's monotonic clock [s]; 0 if it did not vanish.
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
    ended: float = 0.0

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


def first_failure(failures: Mapping[int, Failure], silent: Sequence[Failure] = ()) -> Failure:
    """The failure that brought the others about.

    Args:
        failures: by rank, in the order in which they were heard of.
        silent: ranks that have told of no failure, but have told nothing at all since the first one.

    Returns:
        The first one heard of that is no echo of another's. If all are, the silent rank, its message saying who saw it
        go; without any, the first echo, its message saying that it is no more than that. Where ranks of its host
        vanished together, as mpirun ends all when one goes, the one that ended first, its message naming all of them.
    """
    heard = list(failures.values())
    first = next((failure for failure in heard if not failure.echo), None)
    if first is not None:
        return _first_of_those_together(first, heard) if first.kind == "vanished" else first
    witness = heard[0]
    if not silent:
        return replace(witness, message=f"{_ONLY_SEEN}: {witness.message}")
    lost = max(silent, key=lambda failure: failure.seconds)
    also = f", as of ranks {_listed(one.rank for one in silent)}" if len(silent) > 1 else ""
    return replace(lost, message=f"{lost.message}{also}; rank {witness.rank} only saw it go: {witness.message}")


def _first_of_those_together(first: Failure, heard: list[Failure]) -> Failure:
    of_host = [failure for failure in heard if (failure.kind, failure.host) == (first.kind, first.host)]
    together = [failure for failure in of_host if abs(failure.ended - first.ended) < _TOGETHER]
    if len(together) == 1:
        return first
    first = min(together, key=lambda failure: failure.ended)
    ranks = _listed(failure.rank for failure in together)
    why = "the launcher may have ended the others: see its output and the host's log"
    return replace(first, message=f"{first.message}; ranks {ranks} ended at the same moment, {why}")


def _listed(ranks: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(ranks)))
