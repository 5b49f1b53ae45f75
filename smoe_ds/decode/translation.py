"""What a line is answered with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["translated", "empty", "truncated"]


@dataclass(frozen=True)
class Translation:
    """The answer to one line.

    Attributes:
        text: one line, without a line break of any kind.
        score: log-probability / length^length_penalty; 0 for an empty line.
        status: ``empty``: nothing of the line is visible, and the answer is empty; ``truncated``: the line had more
            tokens than the model has positions, and only the first of them were translated.
        tokens: token ids of the answer, without the end of sentence.
        num_source_tokens: tokens of the whole line, special tokens included.
    """

    text: str
    score: float
    status: Status
    tokens: tuple[int, ...]
    num_source_tokens: int
