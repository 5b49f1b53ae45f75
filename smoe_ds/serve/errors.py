"""What a request can be refused with."""

from __future__ import annotations


class RefusedError(Exception):
    """A request that gets no translation.

    Attributes:
        status: of HTTP.
        detail: one line for the user.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
