"""Bring rows to experts on other ranks: uneven all-to-alls out and back, only rows that are needed.

Rows whose expert is on this rank never enter the exchange. Every rank takes part in every exchange, with empty tensors
if need be, in forward and in backward: no collective depends on data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from smoe_ds.moe.dispatch import RowCounts, RunExperts
from smoe_ds.moe.exchange import Exchange
from smoe_ds.moe.placement import chunk_bounds


def _without(values: Sequence[Any], index: int) -> list[Any]:
    return [value for i, value in enumerate(values) if i != index]


class ExpertParallelDispatcher:
    """Experts spread over the ranks of ``group``.

    In the exchange order the experts of the other ranks come first, by chunk and rank, and this rank's own ones last:
    the rows that travel are one contiguous piece.

    Args:
        group: expert-parallel process group; rank r of it holds the experts that ``Placement`` gives to r.
        chunks: parts in which local experts are computed, each while the rows of the others are under way.
    """

    def __init__(self, group: dist.ProcessGroup, chunks: int = 1) -> None:
        self.group = group
        self.chunks = chunks
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)

    def exchange_counts(
        self, counts: Tensor, experts_per_rank: Sequence[int], alarm: Tensor, extra: Tensor
    ) -> RowCounts:
        local = experts_per_rank[self.rank]
        per_rank = self._by_rank(counts, experts_per_rank)
        message = torch.cat([part for counts_E in per_rank for part in (counts_E, alarm)])
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

    def _by_rank(self, counts: Tensor, experts_per_rank: Sequence[int]) -> list[Tensor]:
        """The counts of the other ranks' experts, rank by rank; in the exchange order they lie chunk by chunk."""
        others = _without(range(self.size), self.rank)
        sizes = [
            last - first
            for chunk in range(self.chunks)
            for first, last in (chunk_bounds(experts_per_rank[rank], self.chunks)[chunk] for rank in others)
        ]
        pieces = counts[: sum(sizes)].split(sizes)
        return [torch.cat(pieces[place :: len(others)]) for place in range(len(others))]

    def through_experts(
        self, rows_RD: Tensor, counts: RowCounts, experts_per_rank: Sequence[int], run: RunExperts
    ) -> Tensor:
        own_counts = counts.sent[len(counts.sent) - experts_per_rank[self.rank] :]
        bounds = chunk_bounds(experts_per_rank[self.rank], self.chunks)
        remote, own = rows_RD.split([rows_RD.shape[0] - sum(own_counts), sum(own_counts)])
        own_parts = own.split([sum(own_counts[first:last]) for first, last in bounds])
        exchange = Exchange(self.group, self._sent(counts, experts_per_rank), self._received(counts, bounds))
        places, own_results = [], []
        for chunk, place in enumerate(exchange.send(remote)):
            first, last = bounds[chunk]
            received = [rows[first:last] for rows in counts.received]
            arrived, place = exchange.arrive(chunk, place)
            by_source = list(arrived.split([sum(rows) for rows in _without(received, self.rank)]))
            by_source.insert(self.rank, own_parts[chunk])
            results = run(first, _by_expert(by_source, received), [sum(rows) for rows in zip(*received, strict=True)])
            by_source = _by_source(results.to(rows_RD.dtype), received)  # one dtype on all ranks, autocast or not
            own_results.append(by_source[self.rank])
            places.append(exchange.give_back(chunk, torch.cat(_without(by_source, self.rank)), place))
        return torch.cat([exchange.join(places), *own_results])

    def _sent(self, counts: RowCounts, experts_per_rank: Sequence[int]) -> list[list[int]]:
        """Rows for each other rank, by chunk."""
        slots = iter(counts.sent)
        sent = [[0] * self.size for _ in range(self.chunks)]
        for chunk in range(self.chunks):
            for rank in _without(range(self.size), self.rank):
                first, last = chunk_bounds(experts_per_rank[rank], self.chunks)[chunk]
                sent[chunk][rank] = sum(next(slots) for _ in range(first, last))
        return sent

    def _received(self, counts: RowCounts, bounds: Sequence[tuple[int, int]]) -> list[list[int]]:
        """Rows from each other rank, by chunk."""
        return [
            [0 if rank == self.rank else sum(rows[first:last]) for rank, rows in enumerate(counts.received)]
            for first, last in bounds
        ]


def _by_expert(by_source: Sequence[Tensor], received: Sequence[Sequence[int]]) -> Tensor:
    """[source][expert] segments -> rows grouped by expert, then source."""
    if not received[0]:  # no expert here: nothing arrives, but the graph must hold together
        return torch.cat(list(by_source))
    segments = [rows.split(list(sizes)) for rows, sizes in zip(by_source, received, strict=True)]
    return torch.cat([piece for pieces in zip(*segments, strict=True) for piece in pieces])


def _by_source(rows: Tensor, received: Sequence[Sequence[int]]) -> list[Tensor]:
    """Rows grouped by expert, then source -> one tensor per source rank, ordered by expert."""
    if not received[0]:
        return [rows] * len(received)
    pieces = rows.split([n for per_source in zip(*received, strict=True) for n in per_source])
    return [torch.cat(pieces[source :: len(received)]) for source in range(len(received))]


def sum_over_ranks(values: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """Sum of ``values`` over the ranks of ``group`` (None: all ranks), without gradient."""
    total = values.detach().clone()
    dist.all_reduce(total, group=group)
    return total


def rank_or_none() -> int | None:
    """This process's rank, None where there is no process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else None
