"""The report of some runs as one HTML file that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from smoe_ds.config.flat import flat
from smoe_ds.config.run import RunConfig
from smoe_ds.evaluate.averages import mean
from smoe_ds.evaluate.scores import Evaluation
from smoe_ds.report.run_report.charts import Line, line_chart, series_class
from smoe_ds.report.run_report.contents import RunContents
from smoe_ds.report.run_report.routing_views import RoutingViews, common_ends, loss_charts, routing_views
from smoe_ds.report.scores import scores_table
from smoe_ds.report.tables import Cell, Column, Table
from smoe_ds.report.templates import style_of, templates_of
from smoe_ds.report.token_view import SCRIPT, STYLE, token_view
from smoe_ds.run.exported import as_export
from smoe_ds.run.requested_capacity import REQUESTED_CAPACITY
from smoe_ds.versions import installed_versions

GENERATOR = '<meta name="generator" content="smoe-ds report">'
"""Stands in every report, and in no other file."""
_CURVES = {
    "train/nll": "Training loss (nat per token)",
    "valid/nll": "Validation loss (nat per token)",
    "train/load_balancing_loss": "Load-balancing loss",
}
_NLL = "valid/nll/"
_ENVIRONMENT = templates_of("smoe_ds.report.run_report")


def report_page(runs: Sequence[RunContents], recipe: tuple[str, RunConfig] | None = None) -> str:
    """The whole file.

    Args:
        runs: at least one.
        recipe: the name of a run file and what it says, to compare configurations with; None: this project's defaults.
    """
    analysed = [run.routing for run in runs if run.routing]
    ends = common_ends([run.routing for run in runs if run.routing and not run.is_dense])
    return _ENVIRONMENT.get_template("page.html").render(
        generator=Markup(GENERATOR),
        style=style_of(_ENVIRONMENT, "page.css") + STYLE,
        script=SCRIPT,
        runs=runs,
        names=[run.name for run in runs],
        series_class=series_class,
        version=installed_versions(["smoe_ds"])["smoe_ds"],
        overview=overview_table(runs),
        curves=list(_curves(runs)),
        capacities=[(run.name, _capacity_curve(run)) for run in runs],
        validation=_validation_table(runs),
        compared=_compared_scores([(run.name, run.scores) for run in runs if run.scores]),
        scores=[(run.name, run.scores, scores_table(run.scores)) for run in runs if run.scores],
        losses=[(run.name, run.routing.text, loss_charts(run.routing, analysed)) for run in runs if run.routing],
        routing=[(run.name, run, _views(run, ends)) for run in runs],
        tokens=[(run.name, [token_view(one) for one in run.sentences]) for run in runs if run.sentences],
        recipe_name=recipe[0] if recipe else "default",
        settings=settings_table(runs, recipe),
        configurations=[(run.name, json.dumps(run.config.to_dict(), indent=2, ensure_ascii=False)) for run in runs],
        versions=_versions_table(runs),
    )


def overview_table(runs: Sequence[RunContents]) -> Table:
    """A column for each run: what it is and what it reached."""
    rows: dict[str, list[str | None]] = {
        "system": [_system(run) for run in runs],
        "parameters (M)": [f"{run.parameters / 1e6:,.1f}" for run in runs],
        "FLOPs per token (M), uniform routing": [_flops(run) for run in runs],
        "last step": [_last_step(run) for run in runs],
        "lowest validation loss (nat per token)": [_lowest(run) for run in runs],
        "mean BLEU of all directions": [_mean_score(run.scores, "bleu") for run in runs],
        "mean chrF++ of all directions": [_mean_score(run.scores, "chrf") for run in runs],
        "requested capacity, encoder": [_capacity(run, "encoder") for run in runs],
        "requested capacity, decoder": [_capacity(run, "decoder") for run in runs],
        "weights looked at": [run.weights or None for run in runs],
        "folder": [str(run.path) for run in runs],
    }
    cells = [(name, *values) for name, values in rows.items() if any(value is not None for value in values)]
    return Table((Column("", "what", "left"), *_run_columns([run.name for run in runs])), tuple(cells))


def _views(run: RunContents, ends: Mapping[str, float]) -> RoutingViews | None:
    """The views of a run with experts that was analysed."""
    return None if run.routing is None or run.is_dense else routing_views(run.routing, ends, _ep_size(run))


def _ep_size(run: RunContents) -> int:
    """Ranks that the experts of a block are spread over; an export lies on one, perhaps with fewer experts."""
    return 1 if as_export(run.path) else run.config.smoe.moe.ep_size


def _run_columns(names: Sequence[str]) -> list[Column]:
    return [Column(name, f"run_{number}") for number, name in enumerate(names)]


def _system(run: RunContents) -> str:
    if run.is_dense:
        return "dense: no experts, so no requested capacity"
    strata = dict.fromkeys(
        "-".join(map(str, block.strata)) for block in run.config.smoe.moe.blocks(run.config.smoe.model).values()
    )
    return f"experts in strata {', '.join(strata)}"


def _flops(run: RunContents) -> str:
    flops = f"{run.plan.flops_per_token / 1e6:,.1f}"
    return f"{flops} (before experts were removed)" if run.lacks_experts else flops


def _last_step(run: RunContents) -> str | None:
    steps = [step for values in run.history.values() for step in values]
    return f"{max(steps):,}" if steps else None


def _lowest(run: RunContents) -> str | None:
    values = run.history.get("valid/nll", {})
    best = min(values, key=lambda step: values[step], default=None)
    return None if best is None else f"{values[best]:.3f} (step {best:,})"


def _mean_score(scores: Evaluation | None, name: str) -> str | None:
    return None if scores is None else f"{mean([getattr(one.score, name) for one in scores.directions]):.2f}"


def _capacity(run: RunContents, side: str) -> str | None:
    if run.routing is None or side not in run.routing.sides:
        return None
    return f"{run.routing.total(side):.2f}"


def _curves(runs: Sequence[RunContents]) -> Iterator[tuple[str, Markup]]:
    for tag, title in _CURVES.items():
        lines = [Line(run.name, sorted(run.history.get(tag, {}).items())) for run in runs]
        if (chart := line_chart(lines, title, "step")) is not None:
            yield title, chart


def _capacity_curve(run: RunContents) -> tuple[list[str], Markup | None]:
    """Blocks, and their requested capacity as it was logged."""
    tags = [tag for tag in run.history if tag.startswith(REQUESTED_CAPACITY)]
    lines = [Line(tag, sorted(run.history[tag].items())) for tag in tags]
    chart = line_chart(lines, f"Requested capacity in training, {run.name}", "step")
    return [tag.removeprefix(REQUESTED_CAPACITY) for tag in tags], chart


def _validation_table(runs: Sequence[RunContents]) -> Table | None:
    """Validation loss of each direction at the last validation."""
    last = []
    for run in runs:
        values = {tag[len(_NLL) :]: of for tag, of in run.history.items() if tag.startswith(_NLL)}
        last.append({name: of[max(of)] for name, of in values.items()})
    directions = list(dict.fromkeys(name for of in last for name in of))
    columns = [Column(run.name, f"run_{number}", format=".3f") for number, run in enumerate(runs)]
    rows = tuple((name, *(of.get(name) for of in last)) for name in directions)
    return Table((Column("direction", "direction", "left"), *columns), rows) if rows else None


def _compared_scores(scores: Sequence[tuple[str, Evaluation]]) -> Table | None:
    """BLEU and chrF++ of several runs side by side; None if there are not several."""
    if len(scores) < 2:
        return None
    columns, found = [Column("direction", "direction", "left")], []
    for key, title in (("bleu", "BLEU"), ("chrf", "chrF++")):
        for number, (name, evaluation) in enumerate(scores):
            columns.append(Column(f"{title} {name}", f"{key}_{number}", format=".2f"))
            found.append({one.direction: getattr(one.score, key) for one in evaluation.directions})
    directions = dict.fromkeys(name for of in found for name in of)
    return Table(tuple(columns), tuple((name, *(of.get(name) for of in found)) for name in directions))


def settings_table(runs: Sequence[RunContents], recipe: tuple[str, RunConfig] | None) -> Table:
    """Keys in which a run differs from the recipe, or from another run.

    Args:
        runs: at least one.
        recipe: see `report_page`; without one, DeepSpeed's keys are compared among the runs only.
    """
    found = [flat(run.config.to_dict()) for run in runs]
    base = flat(recipe[1].to_dict() if recipe else {"smoe": _defaults(runs[0].config)})
    keys = dict.fromkeys(key for of in (base, *found) for key in of)
    rows: list[tuple[Cell, ...]] = []
    for key in keys:
        values = [of.get(key) for of in found]
        of_deepspeed = recipe is None and not key.startswith("smoe.")
        if any(value != (values[0] if of_deepspeed else base.get(key)) for value in values):
            rows.append((key, base.get(key), *values))
    first = [Column("key", "key", "left"), Column(recipe[0] if recipe else "default", "recipe")]
    return Table((*first, *_run_columns([run.name for run in runs])), tuple(rows))


def _defaults(config: RunConfig) -> dict[str, Any]:
    """The section ``"smoe"`` of a run that sets nothing; what has no default is left out."""
    made: dict[str, Any] = {}
    for name in type(config.smoe).model_fields:
        section = type(getattr(config.smoe, name))
        fields = section.model_construct().model_dump(mode="json", warnings=False)  # not validated: it is no whole run
        made[name] = fields
    return made


def _versions_table(runs: Sequence[RunContents]) -> Table | None:
    """What the runs were made with."""
    made = [
        {**run.environment["versions"], **{key: value for key, value in run.environment.items() if key != "versions"}}
        if run.environment
        else {}
        for run in runs
    ]
    names = dict.fromkeys(name for of in made for name in of)
    rows = tuple(
        (name.replace("_", " ") if name != "smoe_ds" else name, *(_text(of.get(name)) for of in made)) for name in names
    )
    return Table((Column("", "what", "left"), *_run_columns([run.name for run in runs])), rows) if rows else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
