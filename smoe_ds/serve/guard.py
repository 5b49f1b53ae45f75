"""What every request passes before the application sees it: host, token, type and size of its body, time.

An ASGI middleware. It reads the whole body, so that a slow client occupies nothing but its connection.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from smoe_ds.serve.errors import RefusedError
from smoe_ds.serve.metrics import Metrics
from smoe_ds.serve.settings import Limits

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

PROTECTED = ("/translate", "/tokens", "/languages", "/metrics")
"""What needs the token; the page, the API's description and /health say nothing of texts or model."""
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
_HEADERS = [
    (b"content-security-policy", b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
     b"img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]  # fmt: skip
_CLIENT_GONE = 499
_LONGEST_READ = 1 << 24
"""Bytes of too long a body that are read and forgotten: many clients read no answer before they have sent all."""


class Guard:
    """Wraps the application.

    Args:
        app: the application.
        limits: sizes and times.
        metrics: told of every request.
        token: that requests to `PROTECTED` must carry; None: none, and then only this host is answered.
        host: where the service listens.
        paths: that metrics name; others are counted as one.
    """

    def __init__(
        self, app: App, limits: Limits, metrics: Metrics, token: str | None, host: str, paths: frozenset[str]
    ) -> None:
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._token = None if token is None else token.encode()
        self._names = {*_LOCAL_NAMES, host.lower(), f"[{host.lower()}]"}
        self._paths = paths

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"] if scope["path"] in self._paths else "other"
        status = _CLIENT_GONE
        began = time.perf_counter()

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *_HEADERS]
                if path == "/translate" and status == 200:
                    self._metrics.seconds.observe(time.perf_counter() - began)
            await send(message)

        try:
            headers = {name.lower(): value for name, value in scope["headers"]}
            self._check(scope, headers)
            body = await self._body(receive)
            if body is not None:
                began = time.perf_counter()
                await self._app(scope, _replayed(body, receive), with_headers)
        except RefusedError as refusal:
            await _refuse(refusal, with_headers)
        finally:
            self._metrics.requests.labels(path, str(status)).inc()

    def _check(self, scope: Message, headers: dict[bytes, bytes]) -> None:
        if self._token is None:  # a page of another site must not reach us under a name of its own (DNS rebinding)
            name = _without_port(headers.get(b"host", b"").decode("latin-1").lower())
            if name not in self._names:
                raise RefusedError(
                    400, "the Host header names another host; use http://localhost or an address of this one"
                )
        elif scope["path"] in PROTECTED:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._token):
                raise RefusedError(401, "needs the service's token, as the header 'Authorization: Bearer TOKEN'")
        if scope["method"] == "POST":
            kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise RefusedError(415, "expected a JSON body with the header 'Content-Type: application/json'")

    async def _body(self, receive: Receive) -> bytes | None:
        """The whole body; None if the client has gone."""
        try:
            return await asyncio.wait_for(self._read(receive), self._limits.body_timeout)
        except asyncio.TimeoutError:
            seconds = f"{self._limits.body_timeout:g} seconds"
            raise RefusedError(408, f"the request's body did not come within {seconds}; send it faster") from None

    async def _read(self, receive: Receive) -> bytes | None:
        parts, size, more = [], 0, True
        while more and size <= _LONGEST_READ:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size <= self._limits.body_bytes:
                parts.append(part)
            more = message.get("more_body", False)
        if size > self._limits.body_bytes:
            raise RefusedError(
                413,
                f"the body is longer than {self._limits.body_bytes} bytes; send at most {self._limits.characters} "
                "characters at a time",
            )
        return b"".join(parts)


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return name if port.isdigit() and name else host


def _replayed(body: bytes, receive: Receive) -> Receive:
    """What the application receives: the body as one message, then what comes from the client."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return pending.pop() if pending else await receive()

    return next_message


async def _refuse(refusal: RefusedError, send: Send) -> None:
    body = json.dumps({"detail": refusal.detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refusal.status in (408, 413):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
