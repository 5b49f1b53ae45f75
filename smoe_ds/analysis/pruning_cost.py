"""What leaving out experts costs: the scores of a model with all of its experts, and without some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from smoe_ds.decode.translator import Translator
from smoe_ds.evaluate.evaluation import evaluate_direction
from smoe_ds.evaluate.held_out import HeldOut
from smoe_ds.evaluate.metrics import Metrics, Score
from smoe_ds.evaluate.scores import groups, mean

Progress = Callable[[str, int, float], None]


@dataclass(frozen=True)
class DirectionCost:
    """The scores of one direction, with all experts and without those removed."""

    direction: str
    whole: Score
    pruned: Score


@dataclass(frozen=True)
class MeanCost:
    """Means over a group of directions, every direction counting the same.

    Attributes:
        name: of the group: ``eng-xxx``, ``xxx-eng`` or ``all``.
        directions: number of them.
        whole: BLEU and chrF++ with all experts, 0 to 100.
        pruned: the same without those removed.
    """

    name: str
    directions: int
    whole: tuple[float, float]
    pruned: tuple[float, float]


@dataclass(frozen=True)
class PruningCost:
    """The content of ``pruning_scores.json``.

    Attributes:
        split: held-out text that was scored.
        limit: sentences of each direction at most; None: all.
        signatures: sacreBLEU's signature of each metric.
        directions: their scores.
    """

    split: str
    limit: int | None
    signatures: dict[str, str]
    directions: tuple[DirectionCost, ...]

    @property
    def means(self) -> list[MeanCost]:
        """Over the groups of directions that an evaluation has means of."""
        found = groups([cost.direction for cost in self.directions])
        return [_mean(name, [self.directions[place] for place in places]) for name, places in found.items()]

    def as_json(self) -> dict[str, Any]:
        return {
            "split": self.split,
            "limit": self.limit,
            "signatures": self.signatures,
            "directions": {
                one.direction: {"whole": asdict(one.whole), "pruned": asdict(one.pruned)} for one in self.directions
            },
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> PruningCost:
        """What `as_json` made."""
        directions = tuple(
            DirectionCost(direction, Score(**scores["whole"]), Score(**scores["pruned"]))
            for direction, scores in content["directions"].items()
        )
        return cls(content["split"], content["limit"], content["signatures"], directions)


def measure_cost(
    texts: Sequence[HeldOut], models: dict[str, Translator], split: str, limit: int | None, progress: Progress
) -> PruningCost:
    """Scores both models on the same text.

    Args:
        texts: held-out text of every direction.
        models: ``whole`` and ``pruned``.
        split: which text that is.
        limit: sentences that were taken of each direction at most; None: all.
        progress: called with the model's name, sentences done, and sentences per second.
    """
    metrics = Metrics()
    scores: dict[str, list[Score]] = {}
    for name, translator in models.items():
        results = [evaluate_direction(text, translator, None, metrics, partial(progress, name)) for text in texts]
        scores[name] = [result.score for result in results]
    rows = zip([text.direction for text in texts], scores["whole"], scores["pruned"], strict=True)
    return PruningCost(split, limit, metrics.signatures, tuple(DirectionCost(*row) for row in rows))


def _mean(name: str, costs: Sequence[DirectionCost]) -> MeanCost:
    whole, pruned = [cost.whole for cost in costs], [cost.pruned for cost in costs]
    return MeanCost(name, len(costs), _means(whole), _means(pruned))


def _means(scores: Sequence[Score]) -> tuple[float, float]:
    return mean([score.bleu for score in scores]), mean([score.chrf for score in scores])
