"""What all stages of a preparation share: the specification, the finished pieces, the workers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_prep.progress import Progress
from data_prep.spec.sections import Spec
from data_prep.stages.pieces import Pieces
from data_prep.workers.pool import Workers


@dataclass(frozen=True)
class Run:
    """What all stages need.

    Attributes:
        spec: the specification.
        base: folder that its relative paths are relative to.
        pieces: finished pieces.
        workers: processes that work.
        progress: where to say what is going on.
        piece_size: sentence pairs read per piece; the result does not depend on it.
        num_threads: threads that encode in a process; nor does it on this.
    """

    spec: Spec
    base: Path
    pieces: Pieces
    workers: Workers
    progress: Progress
    piece_size: int
    num_threads: int
