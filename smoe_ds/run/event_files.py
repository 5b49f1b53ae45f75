"""The scalars in TensorBoard's event files, for runs that earlier versions logged without ``history.jsonl``."""

from __future__ import annotations

from pathlib import Path


def read_event_files(folder: Path) -> dict[str, dict[int, float]]:
    """All scalars by tag and step, float32; empty where there is no such folder.

    Args:
        folder: TensorBoard's.
    """
    if not folder.is_dir():
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
