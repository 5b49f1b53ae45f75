"""Workers that start side by side: when one can translate, another one that fails ends nothing."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("prometheus_client", reason="the extra serve is not installed")

from smoe_ds.serve.metrics import Metrics
from smoe_ds.serve.pool import Pool
from smoe_ds.serve.process import WorkerError, WorkerProcess
from smoe_ds.serve.settings import Limits, Model


async def loaded() -> WorkerProcess:
    """A process that gets nothing to do, and ends when its input does."""
    pipe = asyncio.subprocess.PIPE
    return WorkerProcess(await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe))


def test_one_loads_the_model_and_at_once_another_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both before the pool's `start` goes on."""
    said: list[str] = []

    async def run() -> int:
        is_loaded, coming = asyncio.Event(), iter([True])

        async def start(*_: object) -> WorkerProcess:
            if next(coming, False):
                worker = await loaded()
                is_loaded.set()
                return worker
            await is_loaded.wait()
            raise WorkerError("no memory")

        monkeypatch.setattr(WorkerProcess, "start", start)
        pool = Pool(Model("", ""), 2, Limits(), Metrics(), said.append)
        try:
            await asyncio.wait_for(pool.start(), 60)
            return len(pool.pids)
        finally:
            await pool.close()

    assert asyncio.run(run()) == 1
    assert said == ["a worker could not be started: no memory"]


def test_one_fails_before_any_can_translate(monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(*_: object) -> WorkerProcess:
        raise WorkerError("no memory")

    async def run() -> None:
        await asyncio.wait_for(Pool(Model("", ""), 2, Limits(), Metrics(), print).start(), 60)

    monkeypatch.setattr(WorkerProcess, "start", start)
    with pytest.raises(WorkerError, match="no memory"):
        asyncio.run(run())
