"""Sentences that wait for a worker, and which of them go together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from smoe_ds.serve.work import Work

Answer = dict[str, Any]
"""Of one sentence, as ``worker.py`` gives it."""


class Ticket:
    """A request's sentences, and their answers as they come.

    Args:
        sentences: at least one.
        work: what to do with them.

    Attributes:
        work: what to do with them.
        done: the answers, or why there are none.
    """

    def __init__(self, sentences: Sequence[str], work: Work) -> None:
        self.work = work
        self.jobs = [Job(self, number, text) for number, text in enumerate(sentences)]
        self.done: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._answers: list[Answer | None] = [None] * len(sentences)
        self._missing = len(sentences)

    def answer(self, number: int, answer: Answer) -> None:
        """Takes the answer to a sentence; the last one ends the request."""
        if self._answers[number] is None:
            self._missing -= 1
        self._answers[number] = answer
        if not self._missing and not self.done.done():
            self.done.set_result([one for one in self._answers if one is not None])

    def fail(self, error: Exception) -> None:
        """Ends the request, if it has not ended."""
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(frozen=True, eq=False)
class Job:
    """A sentence of a request."""

    ticket: Ticket
    number: int
    text: str = field(repr=False)


class FairQueue:
    """Requests take turns: of those that can share a batch each gives one sentence after the other.

    A long text so delays nobody by more than a batch; and whoever had a turn goes to the end.
    """

    def __init__(self) -> None:
        self._waiting: dict[Ticket, deque[Job]] = {}
        self._alone: deque[Job] = deque()

    def __len__(self) -> int:
        """Sentences that wait."""
        return sum(map(len, self._waiting.values())) + len(self._alone)

    def add(self, ticket: Ticket) -> None:
        """Takes all sentences of a request."""
        self._waiting[ticket] = deque(ticket.jobs)

    def retry(self, jobs: Sequence[Job]) -> None:
        """Takes sentences back whose batch failed: each comes next, and alone, so that it fails nobody else's."""
        self._alone.extend(job for job in jobs if not job.ticket.done.done())

    def drop(self, ticket: Ticket) -> None:
        """Forgets a request that has ended."""
        self._waiting.pop(ticket, None)
        self._alone = deque(job for job in self._alone if job.ticket is not ticket)

    def clear(self) -> list[Ticket]:
        """Forgets all requests; returns them."""
        tickets = {**dict.fromkeys(self._waiting), **dict.fromkeys(job.ticket for job in self._alone)}
        self._waiting.clear()
        self._alone.clear()
        return list(tickets)

    def take(self, most: int) -> tuple[list[Job], bool]:
        """The next batch: sentences with which the same is to be done.

        Args:
            most: sentences in it.

        Returns:
            the sentences, none where none wait; and whether it is one that has failed before.
        """
        if self._alone:
            return [self._alone.popleft()], True
        work = next((ticket.work for ticket in self._waiting), None)
        sharing = [ticket for ticket in self._waiting if ticket.work == work]
        batch: list[Job] = []
        served: dict[Ticket, None] = {}
        while sharing and len(batch) < most:
            for ticket in sharing[: most - len(batch)]:
                batch.append(self._waiting[ticket].popleft())
                served[ticket] = None
            sharing = [ticket for ticket in sharing if self._waiting[ticket]]
        for ticket in served:
            if left := self._waiting.pop(ticket):
                self._waiting[ticket] = left
        return batch, False
