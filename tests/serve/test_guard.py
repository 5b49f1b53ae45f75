"""What passes the guard: bodies in time and of the right size, hosts of this machine, the right token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="the extra serve is not installed")

from smoe_ds.serve.guard import Guard, Message, Receive, Send
from smoe_ds.serve.metrics import Metrics
from smoe_ds.serve.settings import Limits

LIMITS = Limits(characters=10, body_timeout=0.2)
TOKEN = "0123456789abcdef"


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    """Answers with the body."""
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def ask(parts: Sequence[bytes | None], *, token: str | None = None, **headers: str) -> tuple[int, Any]:
    """Status and body of a POST to /translate whose body comes in parts; None: the client has gone."""
    sent: list[Message] = []
    coming = iter(parts)

    async def receive() -> Message:
        part = next(coming, b"late")
        if part == b"late":
            await asyncio.sleep(60)
        if part is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": part, "more_body": part != parts[-1]}

    async def send(message: Message) -> None:
        sent.append(message)

    lines = {"host": "localhost:80", "content-type": "application/json"} | headers
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/translate",
        "headers": [(name.encode(), value.encode()) for name, value in lines.items()],
    }
    guard = Guard(echo, LIMITS, Metrics(), token, "127.0.0.2", frozenset({"/translate"}))
    asyncio.run(guard(scope, receive, send))
    return (sent[0]["status"], sent[1]["body"]) if sent else (0, b"")


def test_a_body_in_parts() -> None:
    assert ask([b"one ", b"two ", b"three"]) == (200, b"one two three")


def test_a_body_that_does_not_come() -> None:
    status, body = ask([b"one ", b"late", b"two"])
    assert status == 408
    assert json.loads(body)["detail"] == "the request's body did not come within 0.2 seconds; send it faster"


def test_a_client_that_goes_before_its_body_is_there() -> None:
    assert ask([b"one ", None, b"two"]) == (0, b"")


@pytest.mark.parametrize("more", [0, 1, 5_000_000, 40_000_000])
def test_the_size_of_a_body(more: int) -> None:
    whole = b"x" * (LIMITS.body_bytes + more)
    status, body = ask([whole[:4000], whole[4000:], b""] if more < 6_000_000 else [whole, b"late"])
    assert (status, body) == (200, whole) if not more else status == 413 and b"longer than 4216 bytes" in body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]", "[::1]:8000", "127.0.0.2:80"])
def test_hosts_of_this_machine(host: str) -> None:
    assert ask([b"x"], host=host)[0] == 200


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:8000", "localhost.evil.example", "[::2]:8000", "::1"]
)
def test_other_hosts(host: str) -> None:
    assert ask([b"x"], host=host)[0] == 400
    assert ask([b"x"], host=host, token=TOKEN, authorization=f"Bearer {TOKEN}")[0] == 200, "whoever has the token may"


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer  {TOKEN} ", 200),
        (f"Bearer {TOKEN}0", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        ("Bearer", 401),
        ("Bearer \u00e9", 401),
        ("", 401),
    ],
)
def test_tokens(given: str, status: int) -> None:
    assert ask([b"x"], token=TOKEN, authorization=given)[0] == status
