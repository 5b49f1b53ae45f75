"""What made a rank fail, which rank failed first, and how it is told: ``crash.json`` and the log's last lines."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CRASH_FILE = "crash.json"
_KINDS = ("vanished", "exception", "silent", "stalled", "lost", "refused")
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
            but longer in one wait than allowed), "lost" (its watcher went too), "refused" (a start that was not
            possible; nothing crashed).
        doing: what its main thread was at.
        seconds: for how long it had been [s].
        message: one line.
        traceback: of the exception, or of where the rank stood; "" if nobody could tell.
        echo: another rank's failure as this one saw it, e.g. a closed connection.
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


def write_crash(folder: Path, failure: Failure, world_size: int, others: Mapping[int, str], resume: str) -> None:
    """Writes ``crash.json`` in the run folder at once.

    Args:
        folder: the run folder.
        failure: of the first rank to fail.
        world_size: number of ranks.
        others: what each other rank was at, as far as known.
        resume: the command that goes on from the last checkpoint.
    """
    content = asdict(failure) | {
        "world_size": world_size,
        "other_ranks": {str(rank): doing for rank, doing in sorted(others.items())},
        "resume": resume,
    }
    temporary = folder / f".{CRASH_FILE}.{os.getpid()}"
    temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(folder / CRASH_FILE)


def crash_text(folder: Path, failure: Failure, world_size: int, resume: str) -> str:
    """The last lines of the log."""
    lines = [failure.traceback.rstrip()] if failure.traceback else []
    lines += [
        f"smoe-ds: rank {failure.rank} of {world_size} failed first (process {failure.pid} on {failure.host}), "
        f"{failure.doing} for {failure.seconds:.0f} s: {failure.message}",
        f"smoe-ds: see {folder / CRASH_FILE}; go on from the last checkpoint with: {resume}",
    ]
    return "\n".join(lines) + "\n"
