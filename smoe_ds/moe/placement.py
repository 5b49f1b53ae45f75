"""Which rank of an expert-parallel group holds which expert, and in which order a stratum's experts are exchanged."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise


@dataclass(frozen=True)
class Placement:
    """Experts of one block spread over the ranks of an expert-parallel group: expert ``e`` on rank ``e % ep_size``.

    Experts are known by their logical number: stratum 0 holds ``0 .. strata[0]-1``, stratum 1 the next ones, and so on.
    Round-robin spreads every stratum over all ranks, so that no rank idles while one stratum is computed.

    Attributes:
        strata: experts per stratum.
        ep_size: ranks in the group.
        stacked: a gate sees its own stratum only, not the later ones.

    Raises:
        ValueError: if a stratum is empty or ``ep_size`` does not divide the number of experts.
    """

    strata: tuple[int, ...]
    ep_size: int = 1
    stacked: bool = False

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

    def visible_experts(self, stratum: int) -> range:
        """Logical numbers of the experts that the gate of ``stratum`` sees."""
        first = self.first_expert(stratum)
        return range(first, first + self.strata[stratum] if self.stacked else self.num_experts)

    def experts_on(self, ep_rank: int) -> list[int]:
        """Logical numbers, ascending, of all experts on ``ep_rank``."""
        return list(range(ep_rank, self.num_experts, self.ep_size))

    def local_experts(self, ep_rank: int, stratum: int = 0) -> list[int]:
        """Logical numbers, ascending, of the experts on ``ep_rank`` that the gate of ``stratum`` sees."""
        return [e for e in self.visible_experts(stratum) if e % self.ep_size == ep_rank]

    def exchange_order(self, stratum: int, ep_rank: int = 0, chunks: int = 1) -> list[int]:
        """Experts that ``stratum`` sees, by logical number, in the order of ``ep_rank``'s rows: those of the other
        ranks by (chunk, rank, expert), then its own."""
        local = [self.local_experts(rank, stratum) for rank in range(self.ep_size)]
        order = [
            expert
            for chunk in range(chunks)
            for rank in range(self.ep_size)
            if rank != ep_rank
            for expert in local[rank][slice(*chunk_bounds(len(local[rank]), chunks)[chunk])]
        ]
        return order + local[ep_rank]


def chunk_bounds(number: int, chunks: int) -> list[tuple[int, int]]:
    """``number`` things cut into ``chunks`` consecutive parts as even as can be, some of them empty: (first, end)."""
    ends = [number * chunk // chunks for chunk in range(chunks + 1)]
    return list(pairwise(ends))
