"""How many processes translate: as many as cores and memory allow, a few at most; on a GPU one."""

from __future__ import annotations

from dataclasses import dataclass

_CORES_EACH = 2
_MOST = 4
_PROGRAM = 400 * 2**20  # bytes that a worker takes beside the weights: Python, PyTorch, a batch
_SHARE = 0.5  # of the free memory that the default number of workers may take


@dataclass(frozen=True)
class Room:
    """What workers share.

    Attributes:
        cores: that they may use.
        free: memory [bytes].
        model: weights of one worker [bytes].
        gpu: whether they compute on a GPU.
    """

    cores: int
    free: float
    model: int
    gpu: bool = False

    @property
    def each(self) -> int:
        """What a worker needs, about [bytes]."""
        return self.model + _PROGRAM

    def default_workers(self) -> int:
        """Workers if nobody says how many; at least 1."""
        if self.gpu:
            return 1
        return max(1, min(_MOST, self.cores // _CORES_EACH, int(_SHARE * self.free / self.each)))

    def warnings(self, workers: int) -> list[str]:
        """What speaks against so many workers; nothing against one, and on a GPU nothing is known."""
        if self.gpu or workers == 1:
            return []
        found = []
        if workers > self.cores:
            found.append(
                f"{workers} workers share {self.cores} core{'s' * (self.cores > 1)}: more workers than cores translate "
                "nothing faster, and each of them holds the model"
            )
        if workers * self.each > self.free:
            need, free = workers * self.each / 2**30, self.free / 2**30
            found.append(
                f"{workers} workers need about {need:.1f} GiB, and {free:.1f} GiB are free: the system may end them; "
                "take fewer"
            )
        return found
