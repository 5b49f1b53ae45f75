"""SLURM's notations of a time limit."""

from __future__ import annotations

import re

from smoe_ds.errors import LaunchError

_NOTATIONS = (
    (re.compile(r"(\d+)"), (60,)),
    (re.compile(r"(\d+):(\d\d)"), (60, 1)),
    (re.compile(r"(\d+):(\d\d):(\d\d)"), (3600, 60, 1)),
    (re.compile(r"(\d+)-(\d\d?)"), (86400, 3600)),
    (re.compile(r"(\d+)-(\d\d?):(\d\d)"), (86400, 3600, 60)),
    (re.compile(r"(\d+)-(\d\d?):(\d\d):(\d\d)"), (86400, 3600, 60, 1)),
)
"""Minutes, minutes:seconds, hours:minutes:seconds, days-hours and so on, with the units of their fields [s]."""


def seconds_of(text: str) -> int:
    """The time limit in seconds.

    Args:
        text: as ``sbatch --time`` takes it, e.g. ``24:00:00``, ``1-12``, ``90``.

    Raises:
        LaunchError: it is no time, or none at all; or one of its later fields is too large to be meant.
    """
    for pattern, units in _NOTATIONS:
        match = pattern.fullmatch(text)
        if match is None:
            continue
        fields = [int(field) for field in match.groups()]
        largest = [{3600: 23}.get(unit, 59) for unit in units[1:]]
        total = sum(field * unit for field, unit in zip(fields, units, strict=True))
        if total and all(field <= most for field, most in zip(fields[1:], largest, strict=True)):
            return total
    raise LaunchError(
        f"--time {text}: expected minutes, minutes:seconds, hours:minutes:seconds, days-hours or "
        "days-hours:minutes:seconds, e.g. 24:00:00 or 2-12"
    )
