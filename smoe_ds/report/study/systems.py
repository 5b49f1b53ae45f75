"""The systems of a study as tables: scores, tests and cost of each, and its scores by direction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from smoe_ds.report.study.contents import StudyContents
from smoe_ds.report.tables import RULE, Cell, Column, Ranked, Table
from smoe_ds.report.units import binary_bytes, si
from smoe_ds.study.compare import METRICS, Difference, Mean, SystemResult

NAMES = {"nll": "NLL", "bleu": "BLEU", "chrf": "chrF++"}
"""Metrics as a reader knows them."""
FORMATS = {"nll": ".4f", "bleu": ".2f", "chrf": ".2f"}
LEVEL = 0.05
"""p below which a difference is marked."""
_WIDE = 16
"""Directions and groups up to which each has a column; more have a row each."""
_NLL = (
    "NLL: validation loss in nat a token, mean over directions, each counting the same; +- standard error over seeds."
)
_P_NLL = (
    "p of NLL: random signs of the differences by seed and direction; with few seeds trust the standard error instead."
)
_P_SCORES = (
    "p of BLEU and chrF++: translations of sentences exchanged at random between the two systems, all seeds alike."
)
_GPU = "memory: of tensors on the GPU of rank 0, at the peak."
_HOST = "memory: of the training process on its host, at the peak."
_SEEDS = "Systems have other seeds: means are not of the same ones; differences are, seed by seed."
_UNTESTED = "no p of BLEU and chrF++: the rows have no counts of the same text."


def systems_table(study: StudyContents) -> Table:
    """A row for each system; the best mean of each score has a star."""
    columns = [Column("system", "system", "left"), Column("seeds", "seeds")]
    for metric in METRICS:
        columns.append(Column(NAMES[metric], metric, missing=""))
        if any(one.difference(metric) for one in study.results):
            columns.append(Column(f"- {study.against}", f"{metric}_difference", missing=""))
            columns.append(Column("p", f"{metric}_p", format=p_text, missing=""))
    columns += [
        Column("parameters", "parameters", format=si),
        Column("FLOPs/token", "flops_per_token", format=si),
        Column("RC", "requested_capacity", missing=""),
        Column("s/step", "seconds_per_step", missing=""),
        Column("memory", "peak_memory", format=binary_bytes),
    ]
    missing = [metric for metric in METRICS[1:] if not any(one.mean(metric) for one in study.results)]
    shown = [column for column in columns if column.key.split("_")[0] not in missing]
    cells = [_cells(one, study.results) for one in study.results]
    return Table(tuple(shown), tuple(tuple(of[column.key] for column in shown) for of in cells), tuple(_notes(study)))


def p_text(p: float) -> str:
    """A p to three digits."""
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def _notes(study: StudyContents) -> Iterator[str]:
    yield _NLL
    if any(one.differences for one in study.results):
        yield _P_NLL
        scores = [one.difference(metric) for one in study.results for metric in METRICS[1:]]
        if any(scores):
            yield _P_SCORES if any(one and one.p is not None for one in scores) else _UNTESTED
    if len({one.seeds for one in study.results}) > 1:
        yield _SEEDS
    if any(one.peak_memory for one in study.results):
        yield _GPU if any(one.on_device for one in study.results) else _HOST


def _cells(one: SystemResult, results: Sequence[SystemResult]) -> Mapping[str, Cell]:
    cells: dict[str, Cell] = {"system": one.name, "seeds": len(one.seeds)}
    for metric in METRICS:
        difference = one.difference(metric)
        best = _place(metric, one.mean(metric), [other.mean(metric) for other in results]) == 1
        cells[metric] = written(one.mean(metric), FORMATS[metric], best=best)
        cells[f"{metric}_difference"] = _difference(difference, FORMATS[metric], starred=False)
        cells[f"{metric}_p"] = None if difference is None else difference.p
    return cells | {
        "parameters": one.parameters,
        "flops_per_token": one.flops_per_token,
        "requested_capacity": written(one.requested_capacity, ".2f"),
        "seconds_per_step": written(one.seconds_per_step, ".3f"),
        "peak_memory": one.peak_memory,
    }


def directions_table(study: StudyContents, metric: str) -> Table | None:
    """A metric by direction and group, means over seeds, the best system of each marked; None where nobody has it."""
    if not any(metric in one.by_direction for one in study.results):
        return None
    keys = _keys(study, metric)
    by_key = {key: _ranked(metric, [_value(one, metric, key) for one in study.results]) for key in keys}
    return _across(study, list(study.results), keys, by_key, FORMATS[metric])


def differences_table(study: StudyContents, metric: str) -> Table | None:
    """How far each system is from the one that all are tested against, by direction and group; None without such."""
    tested = [one for one in study.results if metric in one.differences]
    if not tested:
        return None
    keys, form = _keys(study, metric), FORMATS[metric]
    by_key = {key: [_difference(one.difference(metric, key), form, starred=True) for one in tested] for key in keys}
    return _across(study, tested, keys, by_key, form, (f"+- standard error over seeds; * p below {LEVEL}.",))


def _keys(study: StudyContents, metric: str) -> list[str]:
    """Directions that have the metric, and groups; a group of one direction says nothing new."""
    directions = [
        name for name in study.directions if any(name in one.by_direction.get(metric, {}) for one in study.results)
    ]
    groups = study.groups if len(directions) > 1 else []
    return [*directions, *(name for name in groups if any(one.mean(metric, name) for one in study.results))]


def _across(
    study: StudyContents,
    systems: Sequence[SystemResult],
    keys: Sequence[str],
    by_key: Mapping[str, Sequence[Cell]],
    form: str,
    notes: tuple[str, ...] = (),
) -> Table:
    """A column for each direction and group where they are few, as in the paper, else a row."""
    if len(keys) <= _WIDE:
        columns = (Column("system", "system", "left"), *(Column(key, key, format=form, missing="") for key in keys))
        rows = [(one.name, *(by_key[key][place] for key in keys)) for place, one in enumerate(systems)]
        return Table(columns, tuple(rows), notes)
    names = [Column(one.name, f"system_{place}", format=form, missing="") for place, one in enumerate(systems)]
    lines = [(key, *by_key[key]) for key in keys]
    first = next((place for place, key in enumerate(keys) if key in study.groups), len(keys))
    ruled = (*lines[:first], RULE, *lines[first:]) if first < len(keys) else tuple(lines)
    return Table((Column("direction", "direction", "left"), *names), ruled, notes)


def _value(one: SystemResult, metric: str, key: str) -> float | None:
    found = one.by_direction.get(metric, {}).get(key) or one.mean(metric, key)
    return None if found is None else found.value


def _ranked(metric: str, values: Sequence[float | None]) -> list[Ranked | None]:
    """The best and the second best marked: the lowest of NLL, the highest of scores."""
    if metric != "nll":
        return Ranked.among(values)
    turned = Ranked.among([None if value is None else -value for value in values])
    return [one and Ranked(-one.value, one.place) for one in turned]


def _place(metric: str, own: Mean | None, all_: Sequence[Mean | None]) -> int:
    ranked = _ranked(metric, [None if one is None else one.value for one in (own, *all_)])[0]
    return ranked.place if ranked and sum(one is not None for one in all_) > 1 else 0


def written(value: Mean | None, form: str, *, best: bool = False) -> str | None:
    """A mean with its error, and a star if it is the best."""
    if value is None:
        return None
    error = "" if value.error is None else f" +-{format(value.error, form.lstrip('+'))}"
    return f"{format(value.value, form)}{error}{' *' if best else ''}"


def _difference(value: Difference | None, form: str, *, starred: bool) -> str | None:
    if value is None:
        return None
    marked = starred and value.p is not None and value.p < LEVEL
    return written(Mean(value.value, value.error), f"+{form}", best=marked)
