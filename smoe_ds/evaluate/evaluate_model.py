"""Evaluates a model on several directions, which the ranks share, and gathers what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smoe_ds.decode.load import TrainedModel
from smoe_ds.decode.translator import Translator
from smoe_ds.errors import DataError
from smoe_ds.evaluate.evaluated_run import EvaluatedRun
from smoe_ds.evaluate.evaluation import (
    DirectionResult,
    Scoring,
    Translated,
    score_direction,
    signatures_of,
    take_samples,
    translate_direction,
    write_translations,
)
from smoe_ds.evaluate.held_out import HeldOut
from smoe_ds.evaluate.metrics import metrics_for
from smoe_ds.evaluate.records import Records, record_key
from smoe_ds.evaluate.scores import Evaluation
from smoe_ds.evaluate.spread import gather_results, shares
from smoe_ds.parallel.agreement import gather_json

Progress = Callable[[int, int, float | None], None]
"""Called with the number of the direction, its sentences done, and sentences per second; None: done before."""


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
        levels: resource level of every direction, None where it has none; empty if no direction has one.
        spbleu: whether to measure spBLEU beside BLEU.
        resamples: corpora that the bootstrap draws; 0: none.
        trials: exchanges of sentences that approximate randomisation tries.
        against: the run to test against.
        again: whether to translate again what was translated before.
    """

    model: TrainedModel
    asked: str | int
    texts: Sequence[HeldOut]
    split: str
    limit: int | None
    tokenize: str | None
    untrained: bool
    translations: Path
    levels: Sequence[str | None] = ()
    spbleu: bool = False
    resamples: int = 0
    trials: int = 0
    against: EvaluatedRun | None = None
    again: bool = False

    def scoring(self, text: HeldOut) -> Scoring:
        """How the translations of a direction are scored."""
        metrics = metrics_for(text.target_language, self.tokenize, spbleu=self.spbleu)
        others = self.against.translations(text.direction) if self.against else None
        return Scoring(metrics, self.resamples, self.trials, others)


class _Models:
    """Loads the translators of a task when the first direction needs them."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._loaded: tuple[Translator, Translator | None] | None = None

    def translate(self, text: HeldOut, progress: Callable[[int, float], None]) -> Translated:
        if self._loaded is None:
            model = self._task.model
            before = model.untrained_translator() if self._task.untrained else None
            self._loaded = model.translator(model.checkpoint(self._task.asked)), before
        return translate_direction(text, *self._loaded, progress)


def evaluate_model(task: Task, rank: int, world_size: int, progress: Progress) -> list[DirectionResult]:
    """The results of all directions, each made by one rank, which writes its translations. A collective.

    What an evaluation that was ended has translated in the same way is taken from its records.

    Args:
        task: the same on all ranks.
        rank: this one.
        world_size: ranks.
        progress: hears of this rank's directions.
    """
    texts, records = task.texts, _records(task)
    if rank == 0:
        records.forget([text.direction for text in texts] if task.again else [])
    known = {text.direction for text in texts if rank == 0 and records.read(text.direction)}
    known = set(gather_json(sorted(known))[0])  # as rank 0 sees the folder, so that all share the rest alike
    sizes = [0 if text.direction in known else sum(map(len, text.sources)) for text in texts]
    models, results = _Models(task), {}
    for number in shares(sizes, world_size)[rank]:
        text = texts[number]
        done = records.read(text.direction) if text.direction in known else None
        if done is None:
            done = models.translate(text, lambda count, rate, number=number: progress(number, count, rate))  # type: ignore[misc]
            with _written(task):
                records.write(text.direction, done)
        else:
            progress(number, len(text.sources), None)
        results[number] = score_direction(text, done, task.scoring(text))
        with _written(task):
            write_translations(task.translations, task.split, results[number])
    return gather_results(results)


@contextmanager
def _written(task: Task) -> Iterator[None]:
    """What cannot be written is said as a mistake of the place."""
    try:
        yield
    except OSError as error:
        where = f"{task.translations}: cannot be written ({error.strerror})"
        raise DataError(f"{where}; free space there, or choose another place with --output") from error


def _records(task: Task) -> Records:
    checkpoint = task.model.checkpoint(task.asked)
    keys = {text.direction: record_key(task.model, checkpoint, text, untrained=task.untrained) for text in task.texts}
    return Records(task.translations, task.split, keys)


def conditions_of(task: Task) -> dict[str, Any]:
    """How a task is carried out, as ``scores.json`` has it: model, checkpoint, held-out text and beam search."""
    model = task.model
    checkpoint = model.checkpoint(task.asked)
    return {
        "run": str(model.folder),
        "checkpoint": {"asked": task.asked, "folder": checkpoint.name, "step": model.step(checkpoint)},
        "split": task.split,
        "limit": task.limit,
        "decode": {**model.config.smoe.decode.model_dump(mode="json"), "dtype": model.dtype},
    }


def evaluation_of(
    task: Task, results: Sequence[DirectionResult], num_samples: int, comet: Mapping[str, float]
) -> Evaluation:
    """What is reported of the results of a task.

    Args:
        task: the task.
        results: of all of its directions.
        num_samples: translations to show.
        comet: COMET by direction; empty where it was not asked for.
    """
    levels = task.levels or [None] * len(results)
    against = None
    if task.against:
        other = task.against.evaluation
        against = {"run": other.run, "folder": other.checkpoint["folder"], "step": other.checkpoint["step"]}
    return Evaluation(
        **conditions_of(task),
        directions=tuple(
            result.scores(task.split, task.translations.name, level, comet.get(result.direction))
            for result, level in zip(results, levels, strict=True)
        ),
        samples=take_samples(task.texts, results, num_samples),
        signatures=signatures_of(results),
        against=against,
    )
