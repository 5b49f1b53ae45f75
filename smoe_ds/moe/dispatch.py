"""Bring rows to the experts and back: the interface, and the version where every expert is on this rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

RunExperts = Callable[[int, Tensor, list[int]], Tensor]
"""``run(first, rows, counts)``: outputs of the local visible experts from number ``first`` on, for rows grouped by
expert, ``counts`` each."""


@dataclass(frozen=True)
class RowCounts:
    """Row counts of one stratum, on the host.

    Attributes:
        sent: rows of this rank per slot of the exchange order.
        received: rows per source rank and local visible expert; on a single rank one list equal to ``sent``.
        alarms: what each rank of the group raised as its alarm; 0 is none.
        extra: whatever the caller sent along to save a second device-to-host copy.
    """

    sent: list[int]
    received: list[list[int]]
    alarms: list[int]
    extra: list[int]

    @property
    def num_rows(self) -> int:
        """Rows of this rank's tokens."""
        return sum(self.sent)

    @property
    def per_expert(self) -> list[int]:
        """Rows each local visible expert gets from all ranks."""
        return [sum(rows) for rows in zip(*self.received, strict=True)]


class Dispatcher(Protocol):
    """Moves rows between tokens and experts. Every rank of the group calls every method once per stratum."""

    def exchange_counts(
        self, counts: Tensor, experts_per_rank: Sequence[int], alarm: Tensor, extra: Tensor
    ) -> RowCounts:
        """Tells every rank how many rows it will get; the one device-to-host copy of a stratum.

        Args:
            counts: kept rows per slot of the exchange order [E], int64.
            experts_per_rank: visible experts on each rank of the group.
            alarm: int64 [1], shown to every rank of the group.
            extra: further int64 numbers wanted on the host, returned as they are.
        """
        ...

    def through_experts(
        self, rows_RD: Tensor, counts: RowCounts, experts_per_rank: Sequence[int], run: RunExperts
    ) -> Tensor:
        """The experts' output for the rows of this rank [R, D], both in exchange order.

        Args:
            rows_RD: this rank's rows.
            counts: what :meth:`exchange_counts` returned.
            experts_per_rank: visible experts on each rank of the group.
            run: applies local experts; called in the same way on every rank, for all of them at once or for some after
                the others.
        """
        ...


class LocalDispatcher:
    """All experts on this rank: the rows are already grouped by expert."""

    def exchange_counts(
        self, counts: Tensor, experts_per_rank: Sequence[int], alarm: Tensor, extra: Tensor
    ) -> RowCounts:
        host = torch.cat([alarm, counts, extra]).tolist()
        sent = host[1 : 1 + counts.numel()]
        return RowCounts(sent, [sent], host[:1], host[1 + counts.numel() :])

    def through_experts(
        self, rows_RD: Tensor, counts: RowCounts, experts_per_rank: Sequence[int], run: RunExperts
    ) -> Tensor:
        return run(0, rows_RD, counts.per_expert)
