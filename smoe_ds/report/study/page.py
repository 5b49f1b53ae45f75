"""The report of a study as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from smoe_ds.report.run_report.charts import Interval, Line, interval_chart, line_chart, series_class
from smoe_ds.report.study.capacity import agreement_table, chance_table, groups_table
from smoe_ds.report.study.contents import StudyContents
from smoe_ds.report.study.curves import AXES, TIME, curves_table, differences_from, points
from smoe_ds.report.study.systems import FORMATS, NAMES, differences_table, directions_table, systems_table
from smoe_ds.report.tables import Table
from smoe_ds.report.templates import style_of, templates_of
from smoe_ds.study.compare import values
from smoe_ds.versions import installed_versions

GENERATOR = '<meta name="generator" content="smoe-ds study">'
"""Stands in every report of a study, and in no other file."""
_ENVIRONMENT = templates_of("smoe_ds.report.study")


def study_html(study: StudyContents) -> str:
    """The whole file."""
    return _ENVIRONMENT.get_template("page.html").render(
        generator=Markup(GENERATOR),
        style=style_of(_ENVIRONMENT, "run_report/page.css") + style_of(_ENVIRONMENT, "page.css"),
        series_class=series_class,
        version=installed_versions(["smoe_ds"])["smoe_ds"],
        name=study.name,
        summary=_summary(study),
        systems=systems_table(study),
        finals=list(_finals(study)),
        names=[one.name for one in study.results],
        curves=list(_curves(study)),
        time=TIME,
        curve_tables=[(axis.name, table) for axis in AXES if (table := curves_table(study.results, axis)).rows],
        directions=list(_directions(study)),
        against=study.against,
        agreement=agreement_table(study.agreements),
        chance=chance_table(study.chances) if study.chances else None,
        capacities=[(f"{one.system}, {one.side}, by {one.by}", groups_table(one)) for one in study.agreements],
        failed=study.failed,
    )


def _summary(study: StudyContents) -> str:
    done = sum(row.status == "done" for row in study.rows)
    failed = f", {len(study.failed)} failed" if study.failed else ""
    sizes = f"{len(study.results)} systems, {len(study.directions)} directions"
    return f"{done} of {study.runs} runs have ended{failed}. {sizes}."


def _finals(study: StudyContents) -> Iterator[tuple[str, Markup]]:
    """Each metric at the end: means, errors and seeds of all systems."""
    for metric, name in NAMES.items():
        rows = []
        for one in study.results:
            found = one.mean(metric)
            if found is not None:
                runs = [values(row, metric) for row in study.by_seed[one.name].values()]
                rows.append(
                    Interval(one.name, found.value, found.error, [sum(of.values()) / len(of) for of in runs if of])
                )
        title = "Validation NLL (nat per token), lower is better" if metric == "nll" else f"{name}, higher is better"
        if (chart := interval_chart(rows, title, "mean of directions", FORMATS[metric])) is not None:
            yield title, chart


def _curves(study: StudyContents) -> Iterator[tuple[str, Markup]]:
    """Validation NLL along each axis, and how far each system is from the one that all are tested against."""
    for axis in AXES:
        lines = [Line(one.name, points(one, axis)) for one in study.results]
        title = f"Validation NLL (nat per token) after {axis.name}"
        if (
            any(x for line in lines for x, _ in line.points)
            and (chart := line_chart(lines, title, axis.name)) is not None
        ):
            yield title, chart
    apart = differences_from(study.results, study.against)
    title = f"Validation NLL minus that of {study.against}, below 0 is better"
    if (
        chart := line_chart([Line(one.name, apart.get(one.name, [])) for one in study.results], title, "updates")
    ) is not None:
        yield title, chart


def _directions(study: StudyContents) -> Iterator[tuple[str, Table, Table | None]]:
    """Each metric by direction, and the differences."""
    for metric, name in NAMES.items():
        table = directions_table(study, metric)
        if table is not None:
            yield name, table, differences_table(study, metric)
