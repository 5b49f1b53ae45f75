"""Several workers over one queue: batches out, answers back; who dies is replaced and its sentences go round again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

from smoe_ds.serve.errors import RefusedError
from smoe_ds.serve.metrics import Metrics
from smoe_ds.serve.process import WorkerError, WorkerProcess
from smoe_ds.serve.queue import FairQueue, Job, Ticket
from smoe_ds.serve.settings import Limits, Model
from smoe_ds.serve.work import Work

_LINGER = 0.02
"""How long a free worker waits for as many sentences as its last batch had [s]: clients that were answered together
come back one after the other."""
_CLOSE = 10.0
"""How long keepers may take to end their workers before they are told again [s]."""
_PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Between starts that fail one after the other [s]."""


class Pool:
    """Workers that translate.

    Args:
        model: what they load.
        number: of workers.
        limits: batch size and timeout.
        metrics: told what happens.
        say: told what an operator should know.
    """

    def __init__(self, model: Model, number: int, limits: Limits, metrics: Metrics, say: Callable[[str], None]) -> None:
        self._model = model
        self._number = number
        self._limits = limits
        self._metrics = metrics
        self._say = say
        self._queue = FairQueue()
        self._arrived = asyncio.Event()
        self._changed = asyncio.Event()
        self._workers: set[WorkerProcess] = set()
        self._free = 0
        self._broken: str | None = None
        self._started = False
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Starts the workers; returns as soon as one can translate.

        Raises:
            WorkerError: one could not load the model before another one could translate.
        """
        self._keepers = [asyncio.create_task(self._keep()) for _ in range(self._number)]
        while not self._workers:
            await self._changed.wait()
            self._changed.clear()
            if self.broken is not None:
                await self.close()
                raise WorkerError(self.broken)
        self._started = True

    @property
    def pids(self) -> list[int]:
        """Processes that can translate."""
        return sorted(worker.pid for worker in self._workers)

    @property
    def waiting(self) -> int:
        """Sentences that wait for a worker."""
        return len(self._queue)

    @property
    def broken(self) -> str | None:
        """Why nothing can be translated now; None: something can, or a new worker is on its way."""
        return None if self._workers else self._broken

    def submit(self, sentences: Sequence[str], work: Work) -> Ticket:
        """Puts a request's sentences into the queue.

        Raises:
            RefusedError: no worker can be started.
        """
        if self.broken is not None:
            raise RefusedError(503, "no worker is running, and a new one could not be started; see the service's log")
        ticket = Ticket(sentences, work)
        self._queue.add(ticket)
        self._arrived.set()
        return ticket

    def drop(self, ticket: Ticket) -> None:
        """Forgets a request that nobody waits for any more; what a worker has of it is done in vain."""
        ticket.done.cancel()
        self._queue.drop(ticket)

    async def close(self) -> None:
        """Ends all workers."""
        left = set(self._keepers)
        while left:
            for keeper in left:
                keeper.cancel()
            # Before Python 3.12 `wait_for` can miss a cancellation that comes together with its result: then once more.
            left = (await asyncio.wait(left, timeout=_CLOSE))[1]

    async def _keep(self) -> None:
        """Has one worker running, a new one after each that ends."""
        failures = 0
        while True:
            try:
                worker = await WorkerProcess.start(self._model, self._number)
            except (WorkerError, OSError) as error:
                self._cannot_start(str(error))
                await asyncio.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
                failures += 1
                continue
            failures = 0
            self._enter(worker)
            try:
                await self._work(worker)
            except Exception as error:  # ours; requests of its batch run into their timeout
                self._say(f"worker {worker.pid}: {type(error).__name__}: {error}")
            finally:
                self._workers.discard(worker)
                await asyncio.shield(worker.end())
            self._metrics.worker_deaths.inc()
            self._say(f"worker {worker.pid} has gone ({worker.how_it_ended}); starting another one")

    def _enter(self, worker: WorkerProcess) -> None:
        self._workers.add(worker)
        self._broken = None
        self._changed.set()

    def _cannot_start(self, reason: str) -> None:
        self._broken = reason
        self._changed.set()
        if self._started or self._workers:
            self._say(f"a worker could not be started: {reason}")
        if not self._workers:
            for ticket in self._queue.clear():
                ticket.fail(
                    RefusedError(503, "no worker is running, and a new one could not be started; try again later")
                )

    async def _work(self, worker: WorkerProcess) -> None:
        """Gives a worker batches until it dies."""
        death = asyncio.create_task(worker.died())
        taking = asyncio.create_task(self._next_batch(1))
        try:
            while True:
                await asyncio.wait({taking, death}, return_when=asyncio.FIRST_COMPLETED)
                if not taking.done():
                    await _cancelled(taking)
                if taking.cancelled():  # it may have been too late for that; then the dead worker fails the batch
                    return
                batch, again = taking.result()
                if not await self._hand(worker, batch, again):
                    return
                taking = asyncio.create_task(self._next_batch(len(batch)))
        finally:
            await _cancelled(taking)
            await _cancelled(death)

    async def _next_batch(self, expected: int) -> tuple[list[Job], bool]:
        """Sentences for a free worker, its fair share of those that wait."""
        self._free += 1
        try:
            while True:
                await self._until_waiting(1)
                if len(self._queue) < expected:
                    await self._linger(expected)
                batch, again = self._queue.take(min(self._limits.batch, ceil(len(self._queue) / self._free)))
                if batch:
                    return batch, again
        finally:
            self._free -= 1

    async def _linger(self, expected: int) -> None:
        more = asyncio.create_task(self._until_waiting(expected))
        try:
            await asyncio.wait({more}, timeout=_LINGER)
        finally:
            more.cancel()

    async def _until_waiting(self, number: int) -> None:
        while len(self._queue) < number:
            self._arrived.clear()
            await self._arrived.wait()

    async def _hand(self, worker: WorkerProcess, batch: list[Job], again: bool) -> bool:
        """Has a worker do a batch; whether it lives on."""
        try:
            answers = await asyncio.wait_for(worker.answers(batch), self._limits.timeout)
        except WorkerError as error:
            self._say(f"worker {worker.pid} could not do a batch: {error}")
            self._failed(batch, again, RefusedError(500, "the model cannot take this text; see the service's log"))
            return True
        except asyncio.TimeoutError:  # so everybody who waited for this batch has been answered
            await worker.kill()
            return False
        except (EOFError, OSError):
            self._failed(batch, again, RefusedError(503, "two workers died on this text; try again later"))
            return False
        self._metrics.batch_sentences.observe(len(batch))
        for job, answer in zip(batch, answers, strict=True):
            job.ticket.answer(job.number, answer)
        return True

    def _failed(self, batch: Sequence[Job], again: bool, refusal: RefusedError) -> None:
        """Puts sentences back into the queue, or ends their requests after the second failure."""
        if not again:
            self._queue.retry(batch)
            self._arrived.set()
            return
        for job in batch:
            job.ticket.fail(refusal)
            self._queue.drop(job.ticket)


async def _cancelled(task: asyncio.Task[Any]) -> None:
    """Cancels a task, and waits until it has ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
