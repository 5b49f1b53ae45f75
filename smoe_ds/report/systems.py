"""Every system at the sizes of a run, one below the other, with what to write for it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from smoe_ds.planning.systems import SystemRow
from smoe_ds.report.pages import Lines, Page
from smoe_ds.report.tables import Cell, Column, Table


def systems_page(name: str, rows: Sequence[SystemRow], vocab_size: int, vocab_source: str) -> Page:
    """What ``smoe-ds plan --systems`` prints.

    Args:
        name: the run file.
        rows: of the systems.
        vocab_size: V.
        vocab_source: where the vocabulary size is from, in words.
    """
    head = Lines((f"{name}: every system at its sizes", f"vocabulary {vocab_size:,} ({vocab_source})"))
    return Page((head, systems_table(rows)))


def systems_table(rows: Sequence[SystemRow]) -> Table:
    """One row a system; those that the run cannot have stand below, with the reason."""
    columns = (
        Column("system", "system", "left"),
        Column("arXiv", "paper", "left"),
        Column("parameters (M)", "parameters", format=",.1f"),
        Column("FLOPs/token (M)", "flops_per_token", format=",.1f"),
        Column("rows/token", "rows_per_token", format=".3f"),
        Column("passes", "training_passes"),
        Column("settings to change", "settings", "left"),
    )
    notes = (
        "FLOPs/token: of one forward pass in training, uniform routing. rows/token: feed-forward networks that a token",
        "visits in a block. passes: forward passes of a micro-batch in training.",
        *(f"{row.system} is impossible here: {row.problem}" for row in rows if row.problem),
    )
    return Table(columns, tuple(_cells(row) for row in rows if row.problem is None), notes)


def _cells(row: SystemRow) -> tuple[Cell, ...]:
    assert row.parameters is not None and row.flops_per_token is not None
    return (
        row.system,
        row.paper,
        row.parameters / 1e6,
        row.flops_per_token / 1e6,
        row.rows_per_token,
        row.training_passes,
        _arguments(row.settings) or "none: it is this run",
    )


def _arguments(settings: Mapping[str, Any]) -> str:
    """As arguments of a command."""
    return " ".join(f"--set {shlex.quote(f'{key}={_value(value)}')}" for key, value in settings.items())


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
