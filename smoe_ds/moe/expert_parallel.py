"""Bring rows to experts on other ranks: one uneven all-to-all out and one back, only rows that are needed.

Rows whose expert is on this rank never enter the exchange. Every rank takes part in every exchange, with empty tensors
if need be, in forward and in backward: no collective depends on data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from smoe_ds.moe.dispatch import RowCounts


class _AllToAll(torch.autograd.Function):
    """``all_to_all_single`` with uneven splits; its gradient is the exchange in the other direction."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, out_splits: list[int], in_splits: list[int], group: dist.ProcessGroup
    ) -> Tensor:
        ctx.splits = (out_splits, in_splits, group)
        out = rows.new_empty((sum(out_splits), *rows.shape[1:]))
        dist.all_to_all_single(out, rows.contiguous(), out_splits, in_splits, group=group)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        out_splits, in_splits, group = ctx.splits
        grad = grads[0].new_empty((sum(in_splits), *grads[0].shape[1:]))
        dist.all_to_all_single(grad, grads[0].contiguous(), in_splits, out_splits, group=group)
        return grad, None, None, None


def _without(values: Sequence[Any], index: int) -> list[Any]:
    return [value for i, value in enumerate(values) if i != index]


class ExpertParallelDispatcher:
    """Experts spread over the ranks of ``group``.

    In the exchange order the experts of the other ranks come first, by rank, and this rank's own ones last, so that the
    rows that travel are one contiguous piece.

    Args:
        group: expert-parallel process group; rank r of it holds the experts that ``Placement`` gives to r.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)

    def exchange_counts(
        self, counts: Tensor, experts_per_rank: Sequence[int], alarm: Tensor, extra: Tensor
    ) -> RowCounts:
        local = experts_per_rank[self.rank]
        others = _without(list(experts_per_rank), self.rank)
        per_rank = counts.split([*others, local])  # own experts are last in the exchange order
        message = torch.cat([part for counts_E in per_rank[:-1] for part in (counts_E, alarm)])
        received = counts.new_empty((self.size - 1) * (local + 1))
        out_splits, in_splits = [local + 1] * self.size, [n + 1 for n in experts_per_rank]
        out_splits[self.rank] = in_splits[self.rank] = 0
        dist.all_to_all_single(received, message, out_splits, in_splits, group=self.group)
        host = torch.cat([alarm, counts, received, extra]).tolist()
        own_alarm, sent, rest = host[0], host[1 : 1 + counts.numel()], host[1 + counts.numel() :]
        by_source = [rest[i * (local + 1) : (i + 1) * (local + 1)] for i in range(self.size - 1)]
        by_source.insert(self.rank, [*sent[len(sent) - local :], own_alarm])
        return RowCounts(
            sent,
            [numbers[:-1] for numbers in by_source],
            [numbers[-1] for numbers in by_source],
            rest[received.numel() :],
        )

    def to_experts(self, rows_RD: Tensor, counts: RowCounts, experts_per_rank: Sequence[int]) -> Tensor:
        send, receive = self._splits(counts, experts_per_rank)
        remote, own = rows_RD.split([rows_RD.shape[0] - send[self.rank], send[self.rank]])
        arrived = self._exchange(remote, receive, send)
        by_source = list(arrived.split(_without(receive, self.rank)))
        by_source.insert(self.rank, own)
        return self._by_expert(by_source, counts)

    def from_experts(self, rows: Tensor, counts: RowCounts, experts_per_rank: Sequence[int]) -> Tensor:
        send, receive = self._splits(counts, experts_per_rank)
        by_source = self._by_source(rows, counts)
        own = by_source[self.rank]
        returned = self._exchange(torch.cat(_without(by_source, self.rank)), send, receive)
        return torch.cat([returned, own])

    def _splits(self, counts: RowCounts, experts_per_rank: Sequence[int]) -> tuple[list[int], list[int]]:
        """Rows this rank sends to and receives from each rank, itself included."""
        slots = iter(counts.sent)
        others = [sum(next(slots) for _ in range(n)) for n in _without(list(experts_per_rank), self.rank)]
        own = sum(slots)
        return [*others[: self.rank], own, *others[self.rank :]], [sum(rows) for rows in counts.received]

    def _exchange(self, rows: Tensor, out_splits: Sequence[int], in_splits: Sequence[int]) -> Tensor:
        """All-to-all in which the share of this rank itself is empty."""
        out = [0 if r == self.rank else n for r, n in enumerate(out_splits)]
        into = [0 if r == self.rank else n for r, n in enumerate(in_splits)]
        return _AllToAll.apply(rows, out, into, self.group)

    @staticmethod
    def _by_expert(by_source: Sequence[Tensor], counts: RowCounts) -> Tensor:
        """[source][expert] segments -> rows grouped by expert, then source."""
        if not counts.per_expert:  # no expert here sees this stratum: nothing arrives, but the graph must hold together
            return torch.cat(list(by_source))
        segments = [rows.split(sizes) for rows, sizes in zip(by_source, counts.received, strict=True)]
        return torch.cat([piece for pieces in zip(*segments, strict=True) for piece in pieces])

    def _by_source(self, rows: Tensor, counts: RowCounts) -> list[Tensor]:
        """Rows grouped by expert, then source -> one tensor per source rank, ordered by expert."""
        if not counts.per_expert:
            return [rows] * self.size
        sizes = [n for per_source in zip(*counts.received, strict=True) for n in per_source]
        pieces = rows.split(sizes)
        return [torch.cat(pieces[source :: self.size]) for source in range(self.size)]


def sum_over_ranks(values: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """Sum of ``values`` over the ranks of ``group`` (None: all ranks), without gradient."""
    total = values.detach().clone()
    dist.all_reduce(total, group=group)
    return total


def rank_or_none() -> int | None:
    """This process's rank, None where there is no process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else None
