"""What leaving out experts costs: the scores of a model with all of its experts, and without some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from smoe_ds.decode.translator import Translator
from smoe_ds.evaluate.averages import groups, mean
from smoe_ds.evaluate.evaluation import evaluate_direction, signatures_of
from smoe_ds.evaluate.held_out import HeldOut
from smoe_ds.evaluate.metrics import Score, metrics_for
from smoe_ds.evaluate.scores import tokenizer_in

Progress = Callable[[str, int, float], None]


@dataclass(frozen=True)
class DirectionCost:
    """The scores of one direction, with all experts and without those removed.

    Attributes:
        direction: e.g. ``eng-nso``.
        whole: with all experts.
        pruned: without those removed.
        tokenizer: BLEU's.
        truncated: sentences longer than the model takes; only their beginning was translated.
    """

    direction: str
    whole: Score
    pruned: Score
    tokenizer: str
    truncated: int


@dataclass(frozen=True)
class MeanCost:
    """Means over a group of directions, every direction counting the same.

    Attributes:
        name: of the group: ``eng-xxx``, ``xxx-eng`` or ``all``.
        directions: number of them.
        whole: BLEU and chrF++ with all experts, 0 to 100.
        pruned: the same without those removed.
        tokenizers: BLEU's, in alphabetical order.
    """

    name: str
    directions: int
    whole: tuple[float, float]
    pruned: tuple[float, float]
    tokenizers: tuple[str, ...]


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
                one.direction: {name: value for name, value in asdict(one).items() if name != "direction"}
                for one in self.directions
            },
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> PruningCost:
        """What `as_json` made."""
        tokenizer = tokenizer_in(next(iter(content["signatures"].values())))  # was one for all, and named there alone
        directions = tuple(
            DirectionCost(
                direction,
                Score(**scores["whole"]),
                Score(**scores["pruned"]),
                scores.get("tokenizer", tokenizer),
                scores.get("truncated", 0),
            )
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
    metrics = [metrics_for(text.target_language) for text in texts]
    results = {
        name: [
            evaluate_direction(text, translator, None, metric, partial(progress, name))
            for text, metric in zip(texts, metrics, strict=True)
        ]
        for name, translator in models.items()
    }
    directions = tuple(
        DirectionCost(whole.direction, whole.score, pruned.score, whole.tokenizer, whole.count("truncated"))
        for whole, pruned in zip(results["whole"], results["pruned"], strict=True)
    )
    return PruningCost(split, limit, signatures_of(results["whole"]), directions)


def _mean(name: str, costs: Sequence[DirectionCost]) -> MeanCost:
    whole, pruned = [cost.whole for cost in costs], [cost.pruned for cost in costs]
    return MeanCost(name, len(costs), _means(whole), _means(pruned), tuple(sorted({cost.tokenizer for cost in costs})))


def _means(scores: Sequence[Score]) -> tuple[float, float]:
    return mean([score.bleu for score in scores]), mean([score.chrf for score in scores])
