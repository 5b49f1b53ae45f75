"""Checkpoints: a list of them, whether they are whole, what differs between two, what goes, what was averaged."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from smoe_ds.checkpoints.compare import Comparison
from smoe_ds.checkpoints.format import MANIFEST
from smoe_ds.checkpoints.inspection import Summary, Verification
from smoe_ds.checkpoints.retention import Retention
from smoe_ds.report.tables import Cell, Column, Table
from smoe_ds.weights.average import Candidate

_SHOWN = 20  # tensors
_LONGEST = 100  # characters of a value


def list_table(summaries: Sequence[Summary]) -> Table:
    """What a run has saved, a row for each checkpoint."""
    columns = (
        Column("step", "step"),
        Column("size", "bytes", format=_mebibytes),
        Column("written", "written", "left", format=_local_time),
        Column("topology", "topology", "left"),
        Column("valid nll", "validation_nll", format=".4f"),
        Column("", "marks", "left"),
        Column("files", "files", "left"),
    )
    return Table(columns, tuple(map(_row, summaries)))


def _row(summary: Summary) -> tuple[Cell, ...]:
    return (
        summary.step,
        summary.bytes,
        summary.written,
        topology_text(summary.state) or None,
        summary.nll,
        ", ".join(summary.marks),
        "; ".join(summary.problems) or ("whole" if summary.hashed else "sizes right"),
    )


def topology_text(state: dict[str, Any]) -> str:
    """The ranks that wrote a checkpoint, from its ``state.json``; empty where that does not tell."""
    topology = state.get("topology")
    if not topology:
        return "weights alone" if "origin" in state else ""
    parts = [f"{topology['world_size']} ranks", f"ep {topology['ep_size']}" if "ep_size" in topology else ""]
    parts += [f"ZeRO {topology['zero_stage']}", topology["model_dtype"], "offload" if topology.get("offload") else ""]
    return ", ".join(part for part in parts if part)


def verification_text(found: Verification) -> str:
    """Whether a checkpoint is whole; what is wrong with it is an error's business."""
    number = len(found.problems)
    return f"{found.folder}: {f'damaged, {number} file{_s(number)}' if number else 'whole'}"


def stranger_notes(found: Verification) -> list[str]:
    """A line for each file that does not belong to a checkpoint."""
    return [f"note: {found.folder / name}: is not in {MANIFEST}; nothing reads it" for name in found.strangers]


def comparison_text(found: Comparison, *, every: bool = False) -> str:
    """What differs between two checkpoints.

    Args:
        found: the comparison.
        every: whether all tensors are shown, not only the first twenty.
    """
    lines = [f"{setting.key}: {_short(setting.one)} | {_short(setting.other)}" for setting in found.settings]
    shown = found.tensors if every else found.tensors[:_SHOWN]
    lines += [f"{difference.key} {difference.name}: {difference.text}" for difference in shown]
    if more := len(found.tensors) - len(shown):
        lines.append(f"and {more} more tensor{_s(more)}; --all shows them")
    return "\n".join([f"A {found.one}", f"B {found.other}", *(lines or ["no difference"])])


def retention_lines(found: Retention) -> list[str]:
    """A line for each checkpoint, newest first: whether it is kept or removed."""
    return [f"{'remove' if folder in found.doomed else 'keep'} {folder}" for folder in found.folders]


def averaged_text(candidates: Sequence[Candidate]) -> str:
    """The checkpoints that an average is made of, a line each."""
    losses = ["" if one.nll is None else f", validation loss {one.nll:.4f} nat" for one in candidates]
    return "\n".join(f"{one.folder}{loss}" for one, loss in zip(candidates, losses, strict=True))


def _mebibytes(size: float) -> str:
    return f"{size / 2**20:.1f} MiB"


def _local_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _s(number: int) -> str:
    return "" if number == 1 else "s"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
