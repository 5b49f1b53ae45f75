"""The runs of a study before they are trained, and how long they will take."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from smoe_ds.report.tables import Cell, Column, Marked, Table
from smoe_ds.study.hours import Hours
from smoe_ds.study.spec import OWN_KEYS, Study


def runs_table(study: Study, states: Sequence[str], hours: Sequence[Hours | None], jobs: int) -> Table:
    """Every run of a study with its state and the hours that it takes.

    Args:
        study: the study.
        states: of each run: ``done``, ``failed``, or ``to be trained``.
        hours: of each run; None where they cannot be told.
        jobs: runs at once.
    """
    columns = (
        Column("run", "run", "left"),
        Column("seed", "seed"),
        Column("state", "state", "left"),
        Column("hours", "hours", format=".2f"),
        Column("folder", "folder", "left"),
    )
    cells = [
        (run.name, run.seed, state, _hours(took), str(run.folder))
        for run, state, took in zip(study.runs, states, hours, strict=True)
    ]
    left = [took for state, took in zip(states, hours, strict=True) if state != "done"]
    known = [took.hours for took in left if took]
    notes = [
        f"{took.source.sign or 'hours'}: {took.source.text}"
        for took in {one.source: one for one in hours if one}.values()
    ]
    if not left:
        notes.append("nothing is left to be trained")
    elif len(known) < len(left):
        notes.append(_unknown(study, len(left) - len(known), len(study.runs)))
    if known:
        at_once = (
            f", {sum(known) / jobs:.1f} with {jobs} at once if they do not slow each other down" if jobs > 1 else ""
        )
        notes.append(
            f"still to be trained: {sum(known):.1f} hours, one run at a time{at_once}; without validation, translation"
        )
    return Table(columns, tuple(cells), tuple(notes))


def _hours(took: Hours | None) -> Cell:
    return None if took is None else Marked(took.hours, took.source.sign)


def _unknown(study: Study, number: int, runs: int) -> str:
    """What is not known, and how to know it."""
    which = "no hours" if number == runs else f"no hours of {number} runs"
    one = next((run for run in study.runs if not run.config.smoe.moe.is_dense), study.runs[0])
    changes = [text for text in one.overrides if not text.startswith(OWN_KEYS)]
    words = ["smoe-ds", "calibrate", str(study.base), *(word for text in changes for word in ("--set", text))]
    command = shlex.join([*words, "--output", str(study.constants)])
    under = f" under torchrun with {study.spec.ranks} ranks" if study.spec.ranks > 1 else ""
    return f"{which}: there is no calibration and no run has ended; to have one{under}: {command}"
