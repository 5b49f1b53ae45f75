"""The service from its first to its last moment: port, workers, HTTP, and an end that answers what is in flight."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn

from smoe_ds.errors import LaunchError
from smoe_ds.serve.app import make_app
from smoe_ds.serve.metrics import Metrics
from smoe_ds.serve.pool import Pool
from smoe_ds.serve.process import WorkerError
from smoe_ds.serve.settings import Settings

_CONNECTIONS = 4
"""Connections for each request that may be in flight; more are refused with 503."""


def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT, then answers what is in flight and returns; a second signal ends it at once.

    Args:
        settings: of the service.
        say: told what an operator should know.

    Raises:
        LaunchError: the port is taken, or no worker can load the model.
    """
    with listening(settings.host, settings.port) as bound:
        asyncio.run(_serve(settings, bound, say))


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that is bound.

    Raises:
        LaunchError: the address is not of this host, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise LaunchError(f"--host {host}: {error.strerror or error}; name an address of this machine") from error
    with bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
            bound.listen()  # so that a second service with this port is refused now, not after it has loaded its model
        except OSError as error:
            raise LaunchError(
                f"port {port} of {host}: {(error.strerror or str(error)).lower()}; choose another one with --port"
            ) from error
        yield bound


class _Server(uvicorn.Server):
    """uvicorn's server; signals are ours, so that a graceful end is no interrupt."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(settings: Settings, bound: socket.socket, say: Callable[[str], None]) -> None:
    stop = _on_signals()
    metrics = Metrics()
    pool = Pool(settings.model, settings.workers, settings.limits, metrics, say)
    starting = asyncio.create_task(pool.start())
    try:
        await asyncio.wait({starting, stop.first}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        try:
            starting.result()
        except WorkerError as error:
            raise LaunchError(str(error)) from error
        await _answer(settings, bound, pool, metrics, stop, say)
    finally:
        await pool.close()


async def _answer(
    settings: Settings, bound: socket.socket, pool: Pool, metrics: Metrics, stop: _Signals, say: Callable[[str], None]
) -> None:
    limits = settings.limits
    connections = _CONNECTIONS * limits.requests
    _allow_files(connections + 64)
    config = uvicorn.Config(
        make_app(settings, pool, metrics), log_config=None, log_level="error", access_log=False, lifespan="off",
        ws="none", server_header=False, limit_concurrency=connections,
        timeout_graceful_shutdown=int(limits.timeout + limits.body_timeout) + 5,
    )  # fmt: skip
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    say(f"{_url(bound)} translates with {settings.known.name}; Ctrl-C ends it")
    await asyncio.wait({serving, stop.first}, return_when=asyncio.FIRST_COMPLETED)
    say("ends as soon as it has answered what is in flight; a second signal ends it at once")
    server.should_exit = True
    await asyncio.wait({serving, stop.second}, return_when=asyncio.FIRST_COMPLETED)
    server.force_exit = True
    await serving


class _Signals:
    """Two futures: the first SIGTERM or SIGINT, and the second."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[None] = loop.create_future()
        self.second: asyncio.Future[None] = loop.create_future()

    def came(self) -> None:
        """Counts a signal."""
        following = self.second if self.first.done() else self.first
        if not following.done():
            following.set_result(None)


def _on_signals() -> _Signals:
    signals = _Signals()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signals.came)
    return signals


def _url(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _allow_files(number: int) -> None:
    """Every connection is an open file; the usual 1,024 of a process are fewer than some limits allow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
