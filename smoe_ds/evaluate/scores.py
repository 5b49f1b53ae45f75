"""What an evaluation found: scores of every direction, means and some translations, as ``scores.json`` has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from smoe_ds.evaluate.metrics import CHRF, Score


@dataclass(frozen=True)
class DirectionScores:
    """The scores of one direction.

    Attributes:
        direction: e.g. ``eng-nso``.
        sentences: number of them.
        score: of the model.
        copied: of the source in place of a translation.
        untrained: of the model before training; None where it was not asked for.
        empty: sentences without a token.
        truncated: sentences longer than the model takes; only their beginning was translated.
        seconds: time the model took, the untrained one not counted [s].
        translations: file with the translations, relative to the folder of ``scores.json``.
        tokenizer: BLEU's.
    """

    direction: str
    sentences: int
    score: Score
    copied: Score
    untrained: Score | None
    empty: int
    truncated: int
    seconds: float
    translations: str
    tokenizer: str

    def as_json(self) -> dict[str, Any]:
        """All but the direction, under which ``scores.json`` files it."""
        return {
            "sentences": self.sentences,
            **asdict(self.score),
            "tokenizer": self.tokenizer,
            "copied_source": asdict(self.copied),
            "untrained": asdict(self.untrained) if self.untrained else None,
            "empty": self.empty,
            "truncated": self.truncated,
            "seconds": self.seconds,
            "translations": self.translations,
        }

    @classmethod
    def from_json(cls, direction: str, content: dict[str, Any], tokenizer: str) -> DirectionScores:
        """What `as_json` wrote of a direction.

        Args:
            direction: its name.
            content: what was written.
            tokenizer: BLEU's where the content does not say, since it was one for all.
        """
        own = {name: content[name] for name in ("sentences", "empty", "truncated", "seconds", "translations")}
        return cls(
            direction=direction,
            score=Score(*(content[name] for name in ("bleu", "chrf", "length_ratio"))),
            copied=Score(**content["copied_source"]),
            untrained=Score(**content["untrained"]) if content["untrained"] else None,
            tokenizer=content.get("tokenizer", tokenizer),
            **own,
        )


@dataclass(frozen=True)
class Average:
    """Mean of a group of directions, every direction counting the same.

    Attributes:
        name: of the group: ``eng-xxx``, ``xxx-eng`` or ``all``.
        directions: number of them.
        bleu: BLEU, 0 to 100.
        chrf: chrF++, 0 to 100.
        copied_bleu: BLEU of the sources in place of translations.
        untrained_bleu: BLEU of the model before training; None where it was not asked for.
        tokenizers: BLEU's, in alphabetical order; with more than one, the mean of BLEU has no unit of its own.
    """

    name: str
    directions: int
    bleu: float
    chrf: float
    copied_bleu: float
    untrained_bleu: float | None
    tokenizers: tuple[str, ...]


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
    """

    run: str
    checkpoint: dict[str, Any]
    split: str
    limit: int | None
    decode: dict[str, Any]
    directions: tuple[DirectionScores, ...]
    samples: tuple[Sample, ...]
    signatures: dict[str, str]

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
            **own,
        )


def tokenizer_in(signature: str) -> str:
    """BLEU's tokenizer by sacreBLEU's signature: ``nrefs:1|case:mixed|eff:no|tok:13a|...``."""
    parts = dict(part.partition(":")[::2] for part in signature.split("|"))
    return parts.get("tok", "unknown")


def pivot_of(directions: Sequence[str]) -> str | None:
    """The one language that all directions share; None where there is none, or where there are two (a single pair)."""
    shared = set.intersection(*(set(direction.split("-")) for direction in directions))
    return shared.pop() if len(shared) == 1 else None


def groups(directions: Sequence[str]) -> dict[str, list[int]]:
    """Places of the directions from the pivot, to the pivot, and of all; groups of one direction are left out."""
    pivot = pivot_of(directions)
    found = {"all": list(range(len(directions)))}
    if pivot is not None:
        sides = {f"{pivot}-xxx": 0, f"xxx-{pivot}": 1}
        of = {
            name: [place for place, direction in enumerate(directions) if direction.split("-")[side] == pivot]
            for name, side in sides.items()
        }
        found = {**of, **found}
    return {name: places for name, places in found.items() if len(places) > 1}


def averages(results: Sequence[DirectionScores]) -> list[Average]:
    """Means over the groups of directions, see `groups`."""
    found = groups([result.direction for result in results])
    return [_average(name, [results[place] for place in places]) for name, places in found.items()]


def _average(name: str, group: Sequence[DirectionScores]) -> Average:
    untrained = [result.untrained.bleu for result in group if result.untrained is not None]
    return Average(
        name=name,
        directions=len(group),
        bleu=mean([result.score.bleu for result in group]),
        chrf=mean([result.score.chrf for result in group]),
        copied_bleu=mean([result.copied.bleu for result in group]),
        untrained_bleu=mean(untrained) if untrained else None,
        tokenizers=tuple(sorted({result.tokenizer for result in group})),
    )


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean of at least one number."""
    return sum(values) / len(values)
