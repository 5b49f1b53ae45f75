"""What a rank tells the watcher that it starts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

GIVE_UP = 0.6
"""Part of the deadline after which a rank without a sign of life is given up; the rest is for ending the others."""

MEETING = "waiting for the other ranks"
"""What a rank is at while not all have come."""

_READS_PER_SECOND = 100  # of rank 0's watcher, of all ranks; more where the deadline needs it (60 s, 1,024 ranks: 341)


@dataclass(frozen=True)
class Task:
    """What a watcher has to know; it goes to it as JSON on its command line.

    Attributes:
        folder: the run folder.
        alive: folder of the beats of this start of the run.
        rank: the rank.
        world_size: number of ranks.
        speaks: whether to print where rank 0's watcher cannot (one rank a host).
        pid: the rank's process.
        host: its host.
        address: where the ranks of several hosts meet; None where all are on one.
        deadline: all processes are gone so long after the first failing rank's last sign of life [s].
        stall: longest that a rank may be at one thing [s].
        resume: command that goes on.
    """

    folder: str
    alive: str
    rank: int
    world_size: int
    speaks: bool
    pid: int
    host: str
    address: str | None
    deadline: float
    stall: float
    resume: str

    @property
    def interval(self) -> float:
        """Time between two looks at everything [s]."""
        return min(self.deadline / 20, max(0.2, self.world_size / _READS_PER_SECOND))

    @property
    def patience(self) -> float:
        """Silence after which a rank is given up [s]."""
        return GIVE_UP * self.deadline

    def as_argument(self) -> str:
        """The command-line argument from which `from_argument` reads it."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_argument(text: str) -> Task:
        """Reads it."""
        return Task(**json.loads(text))
