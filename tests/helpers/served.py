"""``smoe-ds serve`` as a process of its own, and a client that speaks HTTP over plain sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

from tests.helpers.environment import own_environment

Result = TypeVar("Result")

DEADLINE = 180.0
"""Longest that a test waits for something: several times what it takes on two busy cores [s]."""


@dataclass
class Reply:
    """An answer of the service; status 0: the connection ended without one."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    @property
    def detail(self) -> str:
        """Why the request was refused."""
        return str(self.json["detail"])


@dataclass
class Service:
    """A running service.

    Attributes:
        process: the one in front.
        port: where it listens.
        said: its lines on stderr.
    """

    process: subprocess.Popen[str]
    port: int = 0
    said: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where a browser goes."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def workers(self) -> list[psutil.Process]:
        """Processes with the model, also those that are still loading it."""
        return psutil.Process(self.process.pid).children()

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        """One request; a body of bytes goes as it is."""
        return finished(self.send(method, path, body, headers))

    def translate(self, text: str, to: str = "nso", **more: Any) -> Reply:
        """One translation."""
        return self.ask("POST", "/translate", {"text": text, "to": to, **more})

    async def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        """One request on a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request_bytes(method, path, body, headers))
            return await read_reply(reader)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def send_all(self, bodies: Sequence[Any]) -> list[Reply]:
        """Translations, all in flight at once."""
        return await asyncio.gather(*(self.send("POST", "/translate", body) for body in bodies))

    def metric(self, name: str) -> float:
        """A figure of /metrics, by its name with labels; 0 where there is none yet."""
        return finished(self.metric_of(name))

    async def metric_of(self, name: str) -> float:
        """The same, from within a loop."""
        return _figure(name, (await self.send("GET", "/metrics")).body.decode())

    async def metric_until(self, name: str, true: Callable[[float], bool]) -> None:
        """Waits, from within a loop, for a figure of /metrics that is as it should be."""
        end = time.monotonic() + DEADLINE
        while not true(figure := await self.metric_of(name)):
            assert time.monotonic() < end, f"{name}: {figure:g} after {DEADLINE} s; it said: {self.said}"
            await asyncio.sleep(0.02)

    def wait_until(self, true: Callable[[], bool], seconds: float = DEADLINE) -> None:
        """Waits for something to become true."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"not within {seconds} s; the service said: {self.said}"
            time.sleep(0.05)


def finished(work: Coroutine[Any, Any, Result]) -> Result:
    """What a coroutine returns; in a thread, since the one of the test may have a loop (playwright's)."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def _figure(name: str, text: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def request_bytes(method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> bytes:
    """A request as it travels."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = {"Host": "localhost", "Connection": "close"}
    if body is not None:
        lines |= {"Content-Type": "application/json", "Content-Length": str(len(data))}
    lines |= headers or {}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + data


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """Reads until the service closes the connection."""
    with contextlib.suppress(ConnectionError):
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        if head:
            first, *lines = head.decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            return Reply(int(first.split()[1]), headers, body)
    return Reply(0, {}, b"")


@contextlib.contextmanager
def served(run: Path, *arguments: str, **environment: str) -> Iterator[Service]:
    """A service of one worker on a free port, once it answers; ended afterwards, and no worker is left."""
    given = ["--port", "0", "--device", "cpu", "--workers", "1", *arguments]
    command = [sys.executable, "-m", "smoe_ds", "serve", str(run), *given]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=own_environment(**environment))
    service = Service(process)
    ready = threading.Event()

    def listen() -> None:
        assert process.stderr
        for line in process.stderr:
            service.said.append(line.rstrip("\n"))
            if found := re.search(r"http://\S+:(\d+) translates", line):
                service.port = int(found[1])
                ready.set()
        ready.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    workers: list[psutil.Process] = []
    try:
        assert ready.wait(DEADLINE) and service.port, service.said
        yield service
        if process.poll() is None:
            workers = service.workers
            process.terminate()
            assert process.wait(DEADLINE) == 0, service.said
        assert psutil.wait_procs(workers, timeout=DEADLINE)[1] == []
    finally:
        for left in (*workers, psutil.Process(process.pid) if process.poll() is None else None):
            if left is not None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    left.kill()
        process.wait()
        listener.join()
        if process.stderr:
            process.stderr.close()
