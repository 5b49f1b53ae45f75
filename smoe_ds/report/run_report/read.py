"""Reads what a run folder has for a report; what is missing is noted, with the command that makes it."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smoe_ds.analysis.analysed_capacity import ANALYSIS
from smoe_ds.config.run import RunConfig
from smoe_ds.decode.load import TrainedModel
from smoe_ds.errors import DataError
from smoe_ds.evaluate.scores import Evaluation
from smoe_ds.report.run_report.contents import RoutingNumbers, Row
from smoe_ds.report.run_report.routing_views import common_ends, routing_views
from smoe_ds.run.folder import RunFolder
from smoe_ds.run.history import read_history
from smoe_ds.text_line import command_line

TABLES = ("losses", "capacity", "strata", "experts", "divergence", "chance")
"""Tables of an analysis that a report shows; a dense model has the first one."""
_NEWER = {"chance", "losses"}
"""Tables that analyses by earlier versions lack."""
_TEXT = {"direction", "side", "block", "by", "group", "language", "other"}
"""Columns that hold text; all others hold numbers."""


def read_scores(file: Path) -> Evaluation | None:
    """The scores of a run; None if it has none.

    Raises:
        DataError: the file is damaged.
    """
    if not file.is_file():
        return None
    try:
        scores = Evaluation.from_json(json.loads(file.read_text(encoding="utf-8")))
        if not isinstance(scores.checkpoint["step"], int):
            raise TypeError("the step of the checkpoint is no whole number")
        return scores
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError) as error:
        raise DataError(f"{file}: is damaged ({error!r}); run smoe-ds evaluate again, or remove it") from error


def read_routing(folder: Path) -> RoutingNumbers | None:
    """The analysis in a folder; None if there is none.

    Raises:
        DataError: a file of it is missing or damaged.
    """
    summary = folder / ANALYSIS
    if not summary.is_file():
        return None
    try:
        about = json.loads(summary.read_text(encoding="utf-8"))
        files = {name: folder / f"{name}.csv" for name in TABLES}
        may_lack = {*TABLES} - {"losses"} if about.get("dense") else _NEWER
        tables = {
            name: [] if name in may_lack and not file.exists() else _read_table(file) for name, file in files.items()
        }
        text = text_of(about["split"], about["limit"], about["step"])
        numbers = RoutingNumbers(tables, _nested(about["trees"]), text, int(about["step"]))
        routing_views(numbers, common_ends([numbers]))  # fails where rows or columns are missing
        return numbers
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{folder}: is damaged ({error!r}); run smoe-ds analyze again, or remove it") from error


def routing_numbers(tables: Mapping[str, Sequence[Row]], about: Mapping[str, Any], step: int) -> RoutingNumbers:
    """The same of an analysis that was made just now.

    Args:
        tables: rows by the name of a table; those that a dense model lacks may be left out.
        about: what `smoe_ds.analysis.routing_analysis.RoutingAnalysis.as_json` gave.
        step: of the weights.
    """
    every = {name: tables.get(name, []) for name in TABLES}
    return RoutingNumbers(every, _nested(about["trees"]), text_of(about["split"], about["limit"], step), step)


def text_of(split: str, limit: int | None, step: int) -> str:
    """What was analysed, in words."""
    sentences = "all sentences" if limit is None else f"the first {limit} sentence{'s' * (limit > 1)}"
    name = {"valid": "validation", "train": "training"}.get(split, split)
    return f"{sentences} per direction of the {name} text, by the weights of step {step:,}"


def _nested(trees: Mapping[str, Any]) -> dict[str, Any]:
    return {side: tree["nested"] for side, tree in trees.items()}


def _read_table(file: Path) -> list[Row]:
    with file.open(encoding="utf-8", newline="") as lines:
        return [{key: _cell(key, text) for key, text in row.items()} for row in csv.DictReader(lines)]


def _cell(key: str, text: str) -> str | float | None:
    if key in _TEXT:
        return text
    return float(text) if text else None


def read_environment(file: Path) -> dict[str, Any]:
    """What a run was made with; empty if that is not recorded.

    Raises:
        DataError: the file is damaged.
    """
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {**content, "versions": dict(content["versions"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{file}: is damaged ({error!r}); restore it, or remove it") from error


def read_log(files: RunFolder) -> dict[str, dict[int, float]]:
    """What a run logged; empty if it has no history.

    Raises:
        CheckpointError: the history is damaged.
    """
    return read_history(files.history) if files.history.is_file() else {}


def repeat_command(model: TrainedModel, environment: Mapping[str, Any], last_step: int) -> str:
    """The command that repeats a run, into another folder; empty if the model was not trained there.

    Args:
        model: of the run.
        environment: what it was made with.
        last_step: the last one that was logged; 0: none.
    """
    if not last_step:
        return ""
    config, ranks = model.config, int(environment.get("world_size", 1))
    start = ["smoe-ds"] if ranks == 1 else ["torchrun", "--nproc_per_node", str(ranks), "-m", "smoe_ds"]
    keys = [f"smoe.train.output_dir={config.smoe.train.output_dir}-again", *_as_many_steps(config, last_step)]
    arguments = [word for key in keys for word in ("--set", key)]
    return command_line([*start, "train", str(model.files.config), *arguments])


def _as_many_steps(config: RunConfig, last_step: int) -> list[str]:
    """Keys for a run that ended by its time, which on another day would have had another number of steps."""
    train = config.smoe.train
    if train.max_minutes is None or last_step >= train.max_steps:
        return []
    return [f"smoe.train.max_steps={last_step}", "smoe.train.max_minutes=null"]
