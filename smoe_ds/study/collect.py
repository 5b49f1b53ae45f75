"""Makes a row out of a run folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import mean, median
from typing import Any

from smoe_ds.analysis.analysed_capacity import ANALYSIS, CAPACITY
from smoe_ds.analysis.requested_capacity import MEAN
from smoe_ds.analysis.routing_use import SIDES, language_of
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.manifest import MANIFEST, read_manifest
from smoe_ds.errors import SmoeError
from smoe_ds.evaluate.counts import Counts
from smoe_ds.evaluate.evaluated_run import EvaluatedRun, read_evaluated
from smoe_ds.evaluate.held_out import read_held_out
from smoe_ds.evaluate.metrics import Metrics
from smoe_ds.evaluate.resource_levels import level_of
from smoe_ds.planning.plan import make_plan
from smoe_ds.planning.vocabulary import planned_vocab_size
from smoe_ds.run.folder import RunFolder
from smoe_ds.run.history import read_history
from smoe_ds.run.requested_capacity import REQUESTED_CAPACITY
from smoe_ds.study.row import Row
from smoe_ds.study.spec import StudyRun

_NLL = "valid/nll"
_SHOWN = ("language", "frequency")
History = dict[str, dict[int, float]]


def collect(run: StudyRun, started: str, error: str, peak_memory: int | None) -> Row:
    """What a run gave.

    Args:
        run: the run, trained or failed.
        started: when, ISO 8601.
        error: why it failed; empty if it did not.
        peak_memory: of its process [bytes]; None: as it was logged.
    """
    plan = make_plan(run.config, vocab_size=planned_vocab_size(run.config)[0])
    folder, corpus = RunFolder(run.folder), Path(run.config.smoe.data.path)
    history: History = {}
    evaluated, counts = None, {}
    try:
        history = read_history(folder.history)
        evaluated = read_evaluated(run.folder) if folder.scores.is_file() else None
    except SmoeError as problem:
        error = error or str(problem)
    if evaluated:
        with suppress(SmoeError):  # then the scores stand without tests
            counts = _counts(evaluated, corpus)
    step = evaluated.evaluation.checkpoint["step"] if evaluated else None
    validations = history.get(_NLL, {})
    last = max(validations, default=0)
    nll = {tag[len(_NLL) + 1 :]: values[last] for tag, values in history.items() if tag.startswith(f"{_NLL}/")}
    capacity = {
        tag.removeprefix(REQUESTED_CAPACITY): values[max(values)]
        for tag, values in history.items()
        if tag.startswith(REQUESTED_CAPACITY)
    }
    scored = evaluated.evaluation.directions if evaluated else ()
    levels = _levels(corpus, nll) | {one.direction: one.level for one in scored if one.level}
    return Row(
        system=run.system,
        variant=run.variant,
        seed=run.seed,
        fingerprint=run.fingerprint,
        status="failed" if error or not validations else "done",
        error=error or ("" if validations else "nothing was validated"),
        steps=max((step for values in history.values() for step in values), default=0),
        nll=nll,
        best_nll=min(validations.values(), default=None),
        curve=_curve(history),
        seconds_per_step=_median(history, "train/seconds_per_step"),
        tokens_per_second=_median(history, "train/tokens_per_second"),
        peak_memory=max(filter(None, [peak_memory, _most_held(history, "host")]), default=None),
        device_memory=_most_held(history, "device"),
        parameters=plan.parameters["total"],
        flops_per_token=float(plan.flops_per_token),
        requested_capacity=sum(capacity.values()) / len(capacity) if capacity else None,
        by_block=capacity,
        capacity=_analysed_capacity(folder.analysis, step) or {"language": _validated_capacity(history)}
        if capacity
        else {},
        chance=_chance(folder.analysis, step) if capacity else [],
        scores={one.direction: {"bleu": one.score.bleu, "chrf": one.score.chrf} for one in scored},
        counts=counts,
        levels=levels,
        settings=list(run.overrides),
        folder=str(run.folder),
        started=started,
        identity=run.identity,
    )


def _median(history: History, tag: str) -> float | None:
    values = history.get(tag, {}).values()
    return median(values) if values else None


def _most_held(history: History, place: str) -> int | None:
    """Memory at the peak, over all parts of the run [bytes]."""
    most = max(history.get(f"memory/{place} (GiB)", {}).values(), default=None)
    return None if most is None else round(most * 2**30)


def _curve(history: History) -> list[tuple[int, float, float, float]]:
    """Step, tokens, seconds and loss of every validation."""
    tokens, seconds = (history.get(f"progress/{name}", {}) for name in ("tokens", "seconds"))
    logged = _sums_of_intervals(history)
    points = []
    for step, loss in sorted(history.get(_NLL, {}).items()):
        before = logged[max((at for at in logged if at <= step), default=0)]
        points.append((step, tokens.get(step, before[0]), seconds.get(step, before[1]), loss))
    return points


def _sums_of_intervals(history: History) -> dict[int, tuple[float, float]]:
    """Tokens and seconds up to each line of the log: of runs whose validations do not say them themselves."""
    per_second, per_step = (history.get(f"train/{name}", {}) for name in ("tokens_per_second", "seconds_per_step"))
    sums, last = {0: (0.0, 0.0)}, 0
    for step in sorted(set(per_second) & set(per_step)):
        seconds = per_step[step] * (step - last)
        sums[step] = (sums[last][0] + per_second[step] * seconds, sums[last][1] + seconds)
        last = step
    return sums


def _levels(corpus: Path, directions: Mapping[str, float]) -> dict[str, str]:
    """Resource levels by the corpus."""
    groups = read_manifest(corpus).get("groups", {}) if (corpus / MANIFEST).is_file() else {}
    return {name: level for name in directions if (level := level_of(name, groups))}


def _counts(evaluated: EvaluatedRun, folder: Path) -> dict[str, Counts]:
    """What the scores are computed from, by direction; none where the text or the translations are not there.

    Raises:
        DataError: translations or text are others than those scored.
    """
    evaluation = evaluated.evaluation
    if not (folder / MANIFEST).is_file():
        return {}
    corpus, found = Corpus(folder, verify=False), {}
    texts = [read_held_out(corpus, evaluation.split, one.direction, evaluation.limit) for one in evaluation.directions]
    evaluated.check_translated(texts)
    for one, text in zip(evaluation.directions, texts, strict=True):
        translations = evaluated.translations(one.direction)
        found[one.direction] = Counts.of(Metrics(one.tokenizer), translations, text.references, text.digest)
    return found


def _validated_capacity(history: History) -> dict[str, dict[str, float]]:
    """Requested capacity by side and language, mean over the directions, at the last validation."""
    found: dict[str, dict[str, float]] = {}
    for side in SIDES:
        tag, by_language = f"valid_rc_{side}/", dict[str, list[float]]()
        for name, values in history.items():
            if name.startswith(tag):
                by_language.setdefault(language_of(side, name[len(tag) :]), []).append(values[max(values)])
        if by_language:
            found[side] = {language: mean(values) for language, values in by_language.items()}
    return found


def _analysed_capacity(folder: Path, step: int | None) -> dict[str, dict[str, dict[str, float]]]:
    """Requested capacity by property, side and group, as ``smoe-ds analyze`` found it."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row in _table(folder, CAPACITY, step):
        if row["by"] in _SHOWN and row["block"] == MEAN:
            of_side = found.setdefault(row["by"], {}).setdefault(row["side"], {})
            of_side[row["group"]] = float(row["requested_capacity"])
    return found


def _chance(folder: Path, step: int | None) -> list[Mapping[str, Any]]:
    kinds = {"side": str, "by": str, "effect": float, "p": float, "sentences": int}
    return [{name: kind(row[name]) for name, kind in kinds.items()} for row in _table(folder, "chance.csv", step)]


def _table(folder: Path, name: str, step: int | None) -> Iterator[dict[str, str]]:
    """The rows of a table of an analysis; none where there is none of the weights of this step. None: of any."""
    about = folder / ANALYSIS
    if about.is_file() and (folder / name).is_file() and step in (None, json.loads(about.read_bytes()).get("step")):
        with (folder / name).open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)
