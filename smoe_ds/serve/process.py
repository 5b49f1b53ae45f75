"""A worker process as the process in front sees it: started, given batches, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence

from smoe_ds.parallel.threads import choose_threads
from smoe_ds.serve.messages import packed, receive
from smoe_ds.serve.queue import Answer, Job
from smoe_ds.serve.settings import Model
from smoe_ds.serve.work import message_of

_END = 5.0
"""How long a worker that is told to end may take [s]."""


class WorkerError(Exception):
    """A worker that says what went wrong; it is still there."""


class WorkerProcess:
    """A process with the model; made by `start`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process = process
        self._input = process.stdin
        self._output = process.stdout

    @classmethod
    async def start(cls, model: Model, workers: int) -> WorkerProcess:
        """Starts one of several workers, and waits until it has loaded the model.

        Raises:
            WorkerError: it cannot load it, or died.
        """
        environment = dict(os.environ)
        choose_threads(workers, environment)
        worker = cls(
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "smoe_ds.serve.worker",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment,
                start_new_session=True,  # Ctrl-C in a terminal is for the process in front, which ends the workers
            )
        )  # fmt: skip
        try:
            await worker._ask(model.as_json())
        except BaseException as error:
            await worker.kill()
            if isinstance(error, (EOFError, OSError)):
                raise WorkerError(f"a worker died while it loaded the model ({worker.how_it_ended})") from error
            raise
        return worker

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def how_it_ended(self) -> str:
        """Signal or exit status; once it has ended."""
        code = self._process.returncode
        return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"

    async def answers(self, batch: Sequence[Job]) -> list[Answer]:
        """The answers to a batch's sentences.

        Raises:
            EOFError, OSError: it died.
            WorkerError: it could not do what is asked.
        """
        reply = await self._ask(message_of(batch[0].ticket.work, [job.text for job in batch]))
        answers: list[Answer] = reply["answers"]
        return answers

    async def _ask(self, message: dict[str, object]) -> dict[str, list[Answer]]:
        self._input.write(packed(message))
        await self._input.drain()
        reply: dict[str, list[Answer]] = await receive(self._output)
        if "error" in reply:
            raise WorkerError(str(reply["error"]))
        return reply

    async def died(self) -> None:
        """Waits until it has ended by itself."""
        await self._process.wait()

    async def end(self) -> None:
        """Lets it end; kills it where it does not."""
        self._input.close()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._process.wait(), _END)
        await self.kill()

    async def kill(self) -> None:
        """Kills it, whatever it is doing."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()
