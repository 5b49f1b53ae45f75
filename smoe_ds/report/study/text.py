"""A study as a page for a terminal, Markdown or LaTeX."""

from __future__ import annotations

from collections.abc import Iterator

from smoe_ds.report.pages import Block, Heading, Lines, Page
from smoe_ds.report.study.capacity import agreement_table, chance_table
from smoe_ds.report.study.contents import StudyContents
from smoe_ds.report.study.curves import AXES, curves_table
from smoe_ds.report.study.systems import NAMES, differences_table, directions_table, systems_table


def study_page(study: StudyContents) -> Page:
    """What ``smoe-ds study`` prints."""
    return Page((systems_table(study), *_directions(study), *_curves(study), *_capacity(study), *_failed(study)))


def _directions(study: StudyContents) -> Iterator[Block]:
    for metric, name in NAMES.items():
        if table := directions_table(study, metric):
            yield from (Heading(f"{name} by direction, mean over seeds"), table)
        if table := differences_table(study, metric):
            yield from (Heading(f"{name} minus that of {study.against}"), table)


def _curves(study: StudyContents) -> Iterator[Block]:
    for axis in AXES:
        table = curves_table(study.results, axis)
        if table.rows:
            yield from (Heading(f"NLL after {axis.name}"), table)


def _capacity(study: StudyContents) -> Iterator[Block]:
    if table := agreement_table(study.agreements):
        yield from (Heading("requested capacity: do seeds agree?"), table)
    if study.chances:
        yield from (Heading("requested capacity: is it more than chance?"), chance_table(study.chances))


def _failed(study: StudyContents) -> Iterator[Block]:
    if study.failed:
        yield Lines(study.failed)
