"""The requested capacity that was logged for trained weights: a run, a checkpoint in it, an average or an export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from smoe_ds.checkpoints import format as fmt
from smoe_ds.errors import CheckpointError
from smoe_ds.run.event_files import read_event_files
from smoe_ds.run.exported import INDEX, as_export
from smoe_ds.run.folder import RunFolder
from smoe_ds.run.history import read_history

REQUESTED_CAPACITY = "moe_requested_capacity/"
"""Begins the tag of a block's requested capacity; the rest is the block's name."""
_FURTHEST = 8  # averages of averages, exports of averages


def measured_requested_capacity(path: Path) -> float:
    """Mean requested capacity over a run's blocks, as last logged up to the step of the weights that are named.

    Args:
        path: run folder (its last log line counts), ``RUN/checkpoints/step_N``, averaged folder or exported model. The
            last two lead to the run their weights come from, which must still be where it was.

    Raises:
        CheckpointError: there is no such log.
    """
    run, step = _logged_run(Path(path).resolve())
    values = _last_values(run, step)
    if not values:
        where = (
            ""
            if run.path in (path.resolve(), path.resolve().parent.parent)
            else f", nor has {run.path}, where its weights come from"
        )
        raise CheckpointError(
            f"{path}: has no log of requested capacities{where}; name the output_dir of an MoE run, or weights of one "
            "that is still where they were taken from"
        )
    return sum(values) / len(values)


def _logged_run(path: Path) -> tuple[RunFolder, int | None]:
    """The run whose log belongs to ``path``, and the step up to which it counts; None: to its end."""
    for _ in range(_FURTHEST):
        origin = _origin(path)
        if origin is None:
            break
        path = origin
    if fmt.is_checkpoint_name(path.name):
        return RunFolder.of_checkpoint(path), fmt.step_of(path)
    return RunFolder(path), None


def _origin(path: Path) -> Path | None:
    """The newest checkpoint that the weights of an export or average were made of; None for a run that was trained."""
    export = as_export(path)
    if export is not None:
        return Path(str(_read(export / INDEX).get("source", {}).get("folder")))
    for folder in [path, *RunFolder(path).saved()[:1]]:
        state = folder / fmt.STATE
        sources = _read(state).get("origin", {}).get("sources") if state.is_file() else None
        if sources:
            return max((Path(source["checkpoint"]) for source in sources), key=fmt.step_of)
    return None


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error}); name the run folder itself") from error
    return content if isinstance(content, dict) else {}


def _last_values(run: RunFolder, step: int | None) -> list[float]:
    """The last value of every block's tag, up to a step.

    A run begun by an earlier version has its first steps, or all, in TensorBoard's files only.
    """
    found = _up_to(read_history(run.history), step) if run.history.is_file() else []
    return found or _up_to(read_event_files(run.tensorboard), step)


def _up_to(scalars: dict[str, dict[int, float]], step: int | None) -> list[float]:
    values = []
    for tag, by_step in scalars.items():
        steps = [logged for logged in by_step if step is None or logged <= step]
        if tag.startswith(REQUESTED_CAPACITY) and steps:
            values.append(by_step[max(steps)])
    return values
