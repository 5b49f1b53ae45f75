"""The requests that workers have or will have: not too many, none for too long, none whose client has gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from smoe_ds.serve.errors import RefusedError
from smoe_ds.serve.metrics import Metrics
from smoe_ds.serve.pool import Pool
from smoe_ds.serve.queue import Answer, Ticket
from smoe_ds.serve.settings import Limits
from smoe_ds.serve.work import Work

Gone = Callable[[], Awaitable[None]]
"""Returns when nobody waits for the answer any more."""


class InFlight:
    """All requests of a service that need a worker, whatever they ask of it.

    Args:
        pool: the workers.
        limits: how many, and for how long.
        metrics: told how many there are.
    """

    def __init__(self, pool: Pool, limits: Limits, metrics: Metrics) -> None:
        self._pool = pool
        self._limits = limits
        self._metrics = metrics
        self._number = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A request's place among those in flight.

        Raises:
            RefusedError: all are taken.
        """
        if self._number >= self._limits.requests:
            raise RefusedError(
                429, f"{self._limits.requests} requests are being answered already; try again in a second"
            )
        self._number += 1
        self._metrics.in_flight.inc()
        try:
            yield
        finally:
            self._number -= 1
            self._metrics.in_flight.dec()

    async def answers(self, sentences: Sequence[str], work: Work, gone: Gone) -> list[Answer] | None:
        """What workers answer.

        Args:
            sentences: at least one.
            work: what to do with them.
            gone: returns when the client has gone.

        Returns:
            an answer for each sentence; None if the client has gone.

        Raises:
            RefusedError: it takes too long, or the workers cannot do it.
        """
        ticket = self._pool.submit(sentences, work)
        leaving = asyncio.ensure_future(gone())
        ends: set[asyncio.Future[Any]] = {ticket.done, leaving}
        try:
            await asyncio.wait(ends, timeout=self._limits.timeout, return_when=asyncio.FIRST_COMPLETED)
            return self._result(ticket, leaving)
        finally:
            leaving.cancel()
            self._pool.drop(ticket)

    def _result(self, ticket: Ticket, leaving: asyncio.Future[None]) -> list[Answer] | None:
        if ticket.done.done():
            return ticket.done.result()
        if leaving.done():
            return None
        raise RefusedError(504, f"no answer within {self._limits.timeout:g} seconds; try again, or send less text")
