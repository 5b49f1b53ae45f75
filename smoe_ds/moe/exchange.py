"""Rows on their way to other ranks and back, in chunks, so that experts work on one while others are under way.

One all-to-all per chunk and direction, in forward and in backward; each is started as soon as its rows are there and
awaited where they are needed. Between the nodes of the autograd graph pass empty tensors, which stand for a chunk's
place in the order; rows and gradients are in the :class:`Exchange`. All ranks start all of them in the same order, with
empty tensors if need be: forward in the order of the chunks, backward in the opposite one, since autograd runs the
youngest node first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

wait_timer: Callable[[], AbstractContextManager[object]] = nullcontext
"""Around every wait for rows; whoever measures them puts a clock here."""


class Exchange:
    """The all-to-alls of one pass.

    Args:
        group: the ranks.
        sent: rows for each rank per chunk; 0 for this rank itself.
        received: rows from each rank per chunk; 0 for this rank itself.
    """

    def __init__(
        self, group: dist.ProcessGroup, sent: Sequence[Sequence[int]], received: Sequence[Sequence[int]]
    ) -> None:
        self.group = group
        self.sent = [list(rows) for rows in sent]
        self.received = [list(rows) for rows in received]
        self._back: Tensor | None = None
        self._buffers: dict[int, Tensor] = {}
        self._under_way: dict[int, tuple[Any, Tensor]] = {}

    def send(self, rows: Tensor) -> list[Tensor]:
        """Starts to send ``rows`` [sum of sent, D], chunk after chunk; returns what :meth:`arrive` wants per chunk."""
        # The way back is part of every rank's graph, whatever of its rows and experts needs a gradient.
        needed = torch.zeros(0, device=rows.device, requires_grad=True)
        return list(_Send.apply(rows, needed, self))

    def arrive(self, chunk: int, place: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of a chunk for this rank, by source rank, once they are here; and what :meth:`give_back` wants."""
        rows, place = _Arrive.apply(place, self, chunk)
        return rows, place

    def give_back(self, chunk: int, results: Tensor, place: Tensor) -> Tensor:
        """Starts to send the results of a chunk, in the order of its rows, to where the rows came from; returns what
        :meth:`join` wants of every chunk."""
        place = _GiveBack.apply(results, place, self, chunk)
        return place

    def join(self, places: Sequence[Tensor]) -> Tensor:
        """The results for the rows sent, in their order, once all are here."""
        rows: Tensor = _Join.apply(self, *places)
        return rows

    def start_there(self, rows: Tensor, order: Iterable[int]) -> None:
        """Starts to send the chunks of ``rows`` [sum of sent, D]."""
        parts = self.by_chunk(rows)
        for chunk in order:
            self._buffers[chunk] = rows.new_empty(sum(self.received[chunk]), *rows.shape[1:])
            self.start(chunk, self._buffers[chunk], parts[chunk], there=True)

    def finish_there(self, chunk: int) -> Tensor:
        """The rows of a chunk for this rank, by source rank."""
        self.finish(chunk)
        return self._buffers.pop(chunk)

    def start(self, chunk: int, out: Tensor, rows: Tensor, *, there: bool) -> None:
        """Starts one all-to-all into ``out``; ``there``: from tokens to experts, else back."""
        sizes = (self.received[chunk], self.sent[chunk]) if there else (self.sent[chunk], self.received[chunk])
        rows = rows.contiguous()
        work = dist.all_to_all_single(out, rows, *sizes, group=self.group, async_op=True)
        self._under_way[chunk] = work, rows  # rows must not be freed before they have left

    def start_back(self, chunk: int, rows: Tensor) -> None:
        """Starts to send ``rows`` of a chunk back, into one tensor for all chunks."""
        if self._back is None:
            self._back = rows.new_empty(sum(map(sum, self.sent)), *rows.shape[1:])
        self.start(chunk, self.by_chunk(self._back)[chunk], rows, there=False)

    def finish_back(self) -> Tensor:
        """Everything that came back, in the order of the rows sent."""
        for chunk in sorted(self._under_way):
            self.finish(chunk)
        assert self._back is not None
        back, self._back = self._back, None
        return back

    def finish(self, chunk: int) -> None:
        """Waits for the all-to-all of a chunk that was started last."""
        with wait_timer():
            self._under_way.pop(chunk)[0].wait()

    def by_chunk(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Rows in the order they are sent, cut into chunks."""
        return rows.split([sum(sizes) for sizes in self.sent])


class _Send(torch.autograd.Function):
    """Forward starts the way there, backward ends the way back; what goes between are places of the chunks only."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, needed: Tensor, exchange: Exchange) -> tuple[Tensor, ...]:
        ctx.exchange = exchange
        exchange.start_there(rows, range(len(exchange.sent)))
        return tuple(rows.new_empty(0) for _ in exchange.sent)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *places: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.exchange.finish_back(), None, None


class _Arrive(torch.autograd.Function):
    """The place goes on to :class:`_GiveBack`, so that backward comes here even if no result depends on the rows."""

    @staticmethod
    def forward(ctx: Any, place: Tensor, exchange: Exchange, chunk: int) -> tuple[Tensor, Tensor]:
        ctx.exchange, ctx.chunk = exchange, chunk
        return exchange.finish_there(chunk), place.new_empty(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, place: Tensor) -> tuple[Tensor | None, ...]:
        ctx.exchange.start_back(ctx.chunk, grad)
        return place, None, None  # _Send returns what has come back, not this


class _GiveBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, results: Tensor, place: Tensor, exchange: Exchange, chunk: int) -> Tensor:
        ctx.exchange, ctx.chunk = exchange, chunk
        exchange.start_back(chunk, results)
        return place.new_empty(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, place: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.exchange.finish_there(ctx.chunk), place, None, None


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, exchange: Exchange, *places: Tensor) -> Tensor:
        ctx.exchange = exchange
        return exchange.finish_back()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        exchange: Exchange = ctx.exchange
        exchange.start_there(grad, reversed(range(len(exchange.sent))))
        return None, *(grad.new_empty(0) for _ in exchange.sent)
