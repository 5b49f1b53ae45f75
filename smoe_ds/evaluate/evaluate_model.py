"""Evaluates a model on several directions, which the ranks share, and gathers what was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smoe_ds.decode.load import TrainedModel
from smoe_ds.evaluate.evaluation import (
    DirectionResult,
    evaluate_direction,
    signatures_of,
    take_samples,
    write_translations,
)
from smoe_ds.evaluate.held_out import HeldOut
from smoe_ds.evaluate.metrics import metrics_for
from smoe_ds.evaluate.scores import Evaluation
from smoe_ds.evaluate.spread import gather_results, shares

Progress = Callable[[int, int, float], None]
"""Called with the number of the direction, its sentences done, and sentences per second."""


@dataclass(frozen=True)
class Task:
    """What to evaluate.

    Attributes:
        model: the model on disk.
        asked: the checkpoint that was asked for: ``best``, ``last`` or a step.
        texts: held-out text of every direction.
        split: which that is.
        limit: sentences of each direction at most; None: all.
        tokenize: BLEU's tokenizer; None: the one that fits each target language.
        untrained: whether the model is scored as it was before training too.
        translations: folder for the translations.
    """

    model: TrainedModel
    asked: str | int
    texts: Sequence[HeldOut]
    split: str
    limit: int | None
    tokenize: str | None
    untrained: bool
    translations: Path


def evaluate_model(task: Task, rank: int, world_size: int, progress: Progress) -> list[DirectionResult]:
    """The results of all directions, each made by one rank, which writes its translations. A collective.

    Args:
        task: the same on all ranks.
        rank: this one.
        world_size: ranks.
        progress: hears of this rank's directions.
    """
    model, texts = task.model, task.texts
    mine = shares([sum(map(len, text.sources)) for text in texts], world_size)[rank]
    results = {}
    if mine:
        translator = model.translator(model.checkpoint(task.asked))
        untrained = model.untrained_translator() if task.untrained else None
    for number in mine:

        def heard(done: int, rate: float, number: int = number) -> None:
            progress(number, done, rate)

        metrics = metrics_for(texts[number].target_language, task.tokenize)
        results[number] = evaluate_direction(texts[number], translator, untrained, metrics, heard)
        write_translations(task.translations, task.split, results[number])
    return gather_results(results)


def evaluation_of(task: Task, results: Sequence[DirectionResult], num_samples: int) -> Evaluation:
    """What is reported of the results of a task."""
    model = task.model
    checkpoint = model.checkpoint(task.asked)
    found: dict[str, Any] = {"asked": task.asked, "folder": checkpoint.name, "step": model.step(checkpoint)}
    dtype = str(model.dtype).removeprefix("torch.")
    return Evaluation(
        run=str(model.folder),
        checkpoint=found,
        split=task.split,
        limit=task.limit,
        decode={**model.config.smoe.decode.model_dump(mode="json"), "dtype": dtype},
        directions=tuple(result.scores(task.split) for result in results),
        samples=take_samples(task.texts, results, num_samples),
        signatures=signatures_of(results),
    )
