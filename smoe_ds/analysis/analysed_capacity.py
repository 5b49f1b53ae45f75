"""The requested capacity in the files that ``smoe-ds analyze`` wrote."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from smoe_ds.analysis.requested_capacity import MEAN

ANALYSIS = "analysis.json"
"""Says what was analysed."""
CAPACITY = "capacity.csv"
"""Has the requested capacities."""


def analysed_requested_capacity(folder: Path, step: int) -> float | None:
    """Mean requested capacity over the blocks of a model, each block counting the same.

    Args:
        folder: of the analysis.
        step: of the weights that it is to be of.

    Returns:
        None if these weights were not analysed.
    """
    try:
        if json.loads((folder / ANALYSIS).read_bytes())["step"] != step:
            return None
        with (folder / CAPACITY).open(encoding="utf-8", newline="") as file:
            values = [
                float(row["requested_capacity"])
                for row in csv.DictReader(file)
                if row["by"] == "all" and row["block"] != MEAN
            ]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return sum(values) / len(values) if values else None
