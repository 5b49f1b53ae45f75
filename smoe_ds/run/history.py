"""The log behind whatever names trained weights: a run folder, a checkpoint in it, an average or an exported model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from smoe_ds.checkpoints import format as fmt
from smoe_ds.errors import CheckpointError
from smoe_ds.run.exported import INDEX, as_export

_TAG = "moe_requested_capacity/"
_FURTHEST = 8  # averages of averages, exports of averages


def measured_requested_capacity(path: Path) -> float:
    """Mean requested capacity over a run's blocks, as last logged up to the step of the weights that are named.

    Args:
        path: run folder (its last log line counts), ``RUN/checkpoints/step_N``, averaged folder or exported model. The
            last two lead to the run their weights come from, which must still be where it was.

    Raises:
        CheckpointError: there is no such log.
    """
    folder, step = _logged_run(Path(path).resolve())
    values = _last_values(folder / "tensorboard", step)
    if not values:
        where = (
            ""
            if folder in (path.resolve(), path.resolve().parent.parent)
            else f", nor has {folder}, where its weights come from"
        )
        raise CheckpointError(
            f"{path}: has no log of requested capacities{where}; name the output_dir of an MoE run, or weights of one "
            "that is still where they were taken from"
        )
    return sum(values) / len(values)


def _logged_run(path: Path) -> tuple[Path, int | None]:
    """The run folder whose log belongs to ``path``, and the step up to which it counts; None: to its end."""
    for _ in range(_FURTHEST):
        origin = _origin(path)
        if origin is None:
            break
        path = origin
    return (path.parent.parent, fmt.step_of(path)) if fmt.is_checkpoint_name(path.name) else (path, None)


def _origin(path: Path) -> Path | None:
    """The newest checkpoint that the weights of an export or average were made of; None for a run that was trained."""
    export = as_export(path)
    if export is not None:
        return Path(str(_read(export / INDEX).get("source", {}).get("folder")))
    for state in [path / fmt.STATE, *sorted((path / "checkpoints").glob(f"step_*/{fmt.STATE}"))[-1:]]:
        sources = _read(state).get("origin", {}).get("sources") if state.is_file() else None
        if sources:
            return max((Path(source["checkpoint"]) for source in sources), key=fmt.step_of)
    return None


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error}); name the run folder itself") from error
    return content if isinstance(content, dict) else {}


def _last_values(folder: Path, step: int | None) -> list[float]:
    """The last value of every block's tag, up to a step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not folder.is_dir():
        return []
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    values = []
    for tag in events.Tags()["scalars"]:
        if tag.startswith(_TAG):
            values += [e.value for e in events.Scalars(tag) if step is None or e.step <= step][-1:]
    return values
