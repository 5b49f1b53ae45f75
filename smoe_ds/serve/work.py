"""What a worker is asked to do with sentences, and the message that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Translate:
    """Translate them; sentences of all requests that want the same go together.

    Attributes:
        to: language to translate into.
        n_best: translations of each.
        source: language of the sentences; None where the model does not read it.
    """

    to: str
    n_best: int
    source: str | None = None


@dataclass(frozen=True, eq=False)
class Follow:
    """Follow their tokens through the strata; no two requests are equal, so each is a batch of its own.

    Attributes:
        direction: e.g. ``eng-nso``.
        translation: to follow beside the sentence; None: what the model translates.
    """

    direction: str
    translation: str | None


Work: TypeAlias = Translate | Follow


def message_of(work: Work, sentences: Sequence[str]) -> dict[str, Any]:
    """What goes to the worker."""
    return {"work": type(work).__name__.lower(), "sentences": list(sentences), **asdict(work)}
