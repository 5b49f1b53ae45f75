"""Messages between the process in front and a worker: JSON behind its length, through the worker's stdin and stdout."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any, BinaryIO

_LENGTH = struct.Struct("!I")


def packed(message: Any) -> bytes:
    """A message as it travels."""
    data = json.dumps(message).encode()
    return _LENGTH.pack(len(data)) + data


def read_message(stream: BinaryIO) -> Any:
    """The next message; None at the end."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = stream.read(length)
    return json.loads(data) if len(data) == length else None


async def receive(stream: asyncio.StreamReader) -> Any:
    """The next message.

    Raises:
        EOFError: the other side has gone.
    """
    (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
    return json.loads(await stream.readexactly(length))
