"""Which rank of an expert-parallel group holds which expert, and in which order a stratum's experts are exchanged."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class Placement:
    """Experts of one block spread over the ranks of an expert-parallel group: expert ``e`` on rank ``e % ep_size``.

    Experts are known by their logical number: stratum 0 holds ``0 .. strata[0]-1``, stratum 1 the next ones, and so on.
    Round-robin spreads every stratum over all ranks, so that no rank idles while one stratum is computed.

    Raises:
        ValueError: if a stratum is empty or ``ep_size`` does not divide the number of experts.
    """

    strata: tuple[int, ...]
    ep_size: int = 1

    def __post_init__(self) -> None:
        if not self.strata or min(self.strata) < 1:
            raise ValueError(f"strata {list(self.strata)}: every stratum needs at least one expert")
        if self.ep_size < 1 or self.num_experts % self.ep_size:
            raise ValueError(f"ep_size {self.ep_size} does not divide the {self.num_experts} experts")

    @property
    def num_experts(self) -> int:
        return sum(self.strata)

    def first_expert(self, stratum: int) -> int:
        """Lowest logical number among the experts that the gate of ``stratum`` sees."""
        return sum(self.strata[:stratum])

    def stratum_of(self, expert: int) -> int:
        """Stratum that holds logical expert ``expert``."""
        return next(i for i, end in enumerate(accumulate(self.strata)) if expert < end)

    def local_experts(self, ep_rank: int, stratum: int = 0) -> list[int]:
        """Logical numbers, ascending, of the experts on ``ep_rank`` that the gate of ``stratum`` sees."""
        return [e for e in range(self.first_expert(stratum), self.num_experts) if e % self.ep_size == ep_rank]

    def exchange_order(self, stratum: int) -> list[int]:
        """Experts that ``stratum`` sees, by logical number, sorted by (rank, expert): the order of rows on the wire."""
        return [e for rank in range(self.ep_size) for e in self.local_experts(rank, stratum)]
