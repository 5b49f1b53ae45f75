"""What an evaluation found: scores of every direction, means and some translations, as ``scores.json`` has them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from smoe_ds.evaluate.averages import Average, averages
from smoe_ds.evaluate.direction_scores import DirectionScores
from smoe_ds.evaluate.metrics import CHRF


@dataclass(frozen=True)
class Sample:
    """A translation to look at, between its source and its reference."""

    direction: str
    source: str
    translation: str
    reference: str


@dataclass(frozen=True)
class Evaluation:
    """All that ``smoe-ds evaluate`` reports.

    Attributes:
        run: folder of the model.
        checkpoint: which one was ``asked`` for, and the ``folder`` and ``step`` that were found.
        split: ``test`` or ``valid``.
        limit: sentences taken of each direction at most; None: all.
        decode: settings of beam search, and ``dtype``.
        directions: their scores.
        samples: translations to look at.
        signatures: sacreBLEU's signature of each metric, BLEU's first; ``BLEU (zh)`` where directions differ in their
            tokenizers.
        against: the evaluation that the directions were tested against: its ``run``, and the ``folder`` and ``step`` of
            its checkpoint; None without one.
    """

    run: str
    checkpoint: dict[str, Any]
    split: str
    limit: int | None
    decode: dict[str, Any]
    directions: tuple[DirectionScores, ...]
    samples: tuple[Sample, ...]
    signatures: dict[str, str]
    against: dict[str, Any] | None = None

    @property
    def averages(self) -> list[Average]:
        """Means of groups of directions."""
        return averages(self.directions)

    @property
    def bleu_name(self) -> str:
        """``BLEU``, or ``spBLEU`` where its tokenizer makes it that."""
        return next(name.split(" ")[0] for name in self.signatures if name != CHRF)

    def as_json(self) -> dict[str, Any]:
        """The content of ``scores.json``."""
        return {
            "run": self.run,
            "checkpoint": self.checkpoint,
            "split": self.split,
            "limit": self.limit,
            "decode": self.decode,
            "directions": {one.direction: one.as_json() for one in self.directions},
            "averages": {mean.name: {**asdict(mean), "tokenizers": list(mean.tokenizers)} for mean in self.averages},
            "samples": [asdict(sample) for sample in self.samples],
            "signatures": self.signatures,
            "against": self.against,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Evaluation:
        """What ``scores.json`` holds; means are computed again."""
        own = {name: content[name] for name in ("run", "checkpoint", "split", "limit", "decode", "signatures")}
        tokenizer = tokenizer_in(next(iter(content["signatures"].values())))
        return cls(
            directions=tuple(
                DirectionScores.from_json(name, found, tokenizer) for name, found in content["directions"].items()
            ),
            samples=tuple(Sample(**sample) for sample in content["samples"]),
            against=content.get("against"),
            **own,
        )


def tokenizer_in(signature: str) -> str:
    """BLEU's tokenizer by sacreBLEU's signature: ``nrefs:1|case:mixed|eff:no|tok:13a|...``."""
    parts = dict(part.partition(":")[::2] for part in signature.split("|"))
    return parts.get("tok", "unknown")
