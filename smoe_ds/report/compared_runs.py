"""Several runs in the paper's table: a row for each, its means by group, and what it costs; below it the directions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from smoe_ds.evaluate.averages import Average
from smoe_ds.evaluate.direction_scores import DirectionScores
from smoe_ds.report.pages import Block, Heading, Lines, Page
from smoe_ds.report.tables import Cell, Column, Marked, Ranked, Table
from smoe_ds.report.units import si
from smoe_ds.study.compared_runs import ComparedRun

METRICS: dict[str, tuple[Callable[[DirectionScores], float | None], Callable[[Average], float | None], str]] = {
    "BLEU": (lambda one: one.score.bleu, lambda mean: mean.bleu, ".2f"),
    "chrF++": (lambda one: one.score.chrf, lambda mean: mean.chrf, ".2f"),
    "spBLEU": (lambda one: one.spbleu, lambda mean: mean.spbleu, ".2f"),
    "COMET": (lambda one: one.comet, lambda mean: mean.comet, ".4f"),
}
"""By the name of a metric: a direction's, the mean of a group's, and the format of both."""
LOGGED = "~ as logged in training; smoe-ds analyze measures RC in held-out text"
FLOPS = "FLOPs/token: of one forward pass, uniform routing"
WHOLE = "! of the model before experts were removed"


def compared_page(runs: Sequence[ComparedRun], bleu_name: str) -> Page:
    """What ``smoe-ds compare`` prints.

    Args:
        runs: scored on one test set.
        bleu_name: ``BLEU``, or ``spBLEU`` where its tokenizer makes it that.
    """
    blocks: list[Block] = []
    for metric, (of_direction, _, _form) in METRICS.items():
        if all(of_direction(one) is not None for run in runs for one in run.directions):
            name = bleu_name if metric == "BLEU" else metric
            blocks += [Heading(f"{name}, mean of directions"), runs_table(runs, metric)]
            blocks += [Heading(f"{name} by direction"), directions_table(runs, metric)]
    return Page((*blocks, *_remarks(runs)))


def runs_table(runs: Sequence[ComparedRun], metric: str) -> Table:
    """The paper's table: a row for each run, a column for each group of directions, the best of each column marked."""
    _, of_mean, form = METRICS[metric]
    means = [{mean.name: of_mean(mean) for mean in run.averages} for run in runs]
    names = _all_names(means)
    ranked = [Ranked.among([of.get(name) for of in means]) for name in names]
    columns = (
        Column("run", "run", "left"),
        *(Column(name, name, format=form) for name in names),
        Column("RC", "requested_capacity", format=".3f"),
        Column("parameters", "parameters", format=si),
        Column("FLOPs/token", "flops_per_token", format=si),
    )
    rows = [(run.name, *(of[place] for of in ranked), *_cost(run)) for place, run in enumerate(runs)]
    logged, lacking = any(run.logged for run in runs), any(run.lacks_experts for run in runs)
    notes = (FLOPS, *([LOGGED] if logged else []), *([WHOLE] if lacking else []))
    return Table(columns, tuple(rows), notes)


def _all_names(several: Sequence[Iterable[str]]) -> list[str]:
    """The names of all, each once; those that the first one lacks stand behind what they follow in theirs."""
    names: list[str] = []
    for own in several:
        place = 0
        for name in own:
            if name not in names:
                names.insert(place, name)
            place = names.index(name) + 1
    return names


def _cost(run: ComparedRun) -> tuple[Cell, ...]:
    capacity: Cell = run.requested_capacity
    if run.requested_capacity is not None and run.logged:
        capacity = Marked(run.requested_capacity, "~")
    flops: Cell = Marked(run.flops_per_token, "!") if run.lacks_experts else run.flops_per_token
    return capacity, run.parameters, flops


def directions_table(runs: Sequence[ComparedRun], metric: str) -> Table:
    """A row for each direction, a column for each run, the best of each row marked."""
    of_direction, _, form = METRICS[metric]
    levels = [_levels(runs, place) for place in range(len(runs[0].directions))]
    shown = [_LEVEL] if any(levels) else []
    columns = [Column("direction", "direction", "left"), *shown]
    columns += [Column(run.name, f"run_{place}", format=form) for place, run in enumerate(runs)]
    rows: list[tuple[Cell, ...]] = []
    for place, one in enumerate(runs[0].directions):
        scores = Ranked.among([of_direction(run.directions[place]) for run in runs])
        rows.append((one.direction, *(levels[place] for _ in shown), *scores))
    return Table(tuple(columns), tuple(rows))


def _levels(runs: Sequence[ComparedRun], place: int) -> str | None:
    """The level of a direction; all of them where runs were evaluated with other groups."""
    return ", ".join(dict.fromkeys(level for run in runs if (level := run.directions[place].level))) or None


_LEVEL = Column("level", "level", "left", missing="")


def _remarks(runs: Sequence[ComparedRun]) -> Iterator[Block]:
    """What else differs between the runs than the model."""
    settings = [{"step": run.step, **run.decode} for run in runs]
    lines = []
    for key in dict.fromkeys(key for of in settings for key in of):
        values = [str(of.get(key)) for of in settings]
        if len(set(values)) > 1:
            each = ", ".join(f"{run.name} {value}" for run, value in zip(runs, values, strict=True))
            lines.append(f"{key} differs: {each}")
    if lines:
        yield Lines(tuple(lines))
