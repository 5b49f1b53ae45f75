"""How a service is set up: where it listens, what it refuses, and what its workers load."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Limits:
    """What is refused.

    Attributes:
        characters: of a text.
        sentences: of a text, after it is split.
        requests: that workers have or that wait at the same time.
        timeout: until a request is answered [s].
        body_timeout: until a request's body is there [s].
        batch: sentences that a worker gets at a time.
    """

    characters: int = 20_000
    sentences: int = 500
    requests: int = 256
    timeout: float = 60.0
    body_timeout: float = 20.0
    batch: int = 64

    @property
    def body_bytes(self) -> int:
        """Longest body of a request: JSON may spell a character in 12 bytes, and there are other fields."""
        return 12 * self.characters + 4096


@dataclass(frozen=True)
class Model:
    """What a worker loads, as `open_trained` takes it.

    Attributes:
        path: run folder, checkpoint in it, or exported model.
        checkpoint: folder with the weights.
        overrides: changes to the run's configuration.
        dtype: what the model computes in.
        device: where; None: the GPU if there is one.
    """

    path: str
    checkpoint: str
    overrides: tuple[str, ...] = ()
    dtype: str = "float32"
    device: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The first message to a worker."""
        return asdict(self)


@dataclass(frozen=True)
class Known:
    """What the process in front knows of the model.

    Attributes:
        name: what the page calls it.
        sources: languages of the vocabulary.
        targets: languages that it translates into.
        directions: trained ones, as ``eng-nso``; None where that is not known.
        n_best: most translations of a sentence.
        has_strata: whether there are paths of tokens to show; a dense model has none.
        reads_source: whether the model has to be told the language of its input.
    """

    name: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    directions: tuple[str, ...] | None
    n_best: int
    has_strata: bool
    reads_source: bool


@dataclass(frozen=True)
class Settings:
    """Of a service.

    Attributes:
        model: what its workers load.
        known: what is known of it.
        host: name or address to listen on.
        port: 0: any that is free.
        workers: processes with the model.
        token: that requests must carry; None: none.
        limits: what is refused.
    """

    model: Model
    known: Known
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    token: str | None = None
    limits: Limits = field(default_factory=Limits)
