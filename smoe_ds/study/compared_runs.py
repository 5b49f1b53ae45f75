"""Several evaluated runs beside each other: their scores on one test set, their sizes and what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from smoe_ds.analysis.analysed_capacity import analysed_requested_capacity
from smoe_ds.decode.load import open_trained
from smoe_ds.errors import DataError, SmoeError
from smoe_ds.evaluate.averages import Average, averages
from smoe_ds.evaluate.averages import groups as grouped
from smoe_ds.evaluate.direction_scores import DirectionScores
from smoe_ds.evaluate.evaluated_run import EvaluatedRun
from smoe_ds.evaluate.resource_levels import level_of
from smoe_ds.planning.plan import make_plan
from smoe_ds.run.folder import RunFolder
from smoe_ds.run.requested_capacity import measured_requested_capacity


@dataclass(frozen=True)
class ComparedRun:
    """A run in a comparison.

    Attributes:
        name: what the user calls it.
        step: of its checkpoint.
        directions: scores, the same directions in every run, in one order.
        parameters: that the model has.
        flops_per_token: of a forward pass, uniform routing, of the whole model.
        lacks_experts: whether experts were removed on export, which the FLOPs do not know.
        requested_capacity: mean over the blocks; None without experts, or where it is not known.
        logged: whether that was logged by ``smoe-ds train``; else it is of ``smoe-ds analyze``.
        decode: settings of beam search, and ``dtype``.
    """

    name: str
    step: int
    directions: tuple[DirectionScores, ...]
    parameters: int
    flops_per_token: int
    lacks_experts: bool
    requested_capacity: float | None
    logged: bool
    decode: Mapping[str, Any]

    @property
    def averages(self) -> list[Average]:
        """Means over groups of directions, groups of a single one too."""
        return averages(self.directions, smallest=1)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "step": self.step,
            "parameters": self.parameters,
            "flops_per_token": self.flops_per_token,
            "lacks_experts": self.lacks_experts,
            "requested_capacity": self.requested_capacity,
            "requested_capacity_from": None if self.requested_capacity is None else self._source,
            "decode": dict(self.decode),
            "averages": {mean.name: asdict(mean) for mean in self.averages},
            "directions": {one.direction: one.as_json() for one in self.directions},
        }

    @property
    def _source(self) -> str:
        return "train" if self.logged else "analyze"


def compare_runs(
    runs: Sequence[EvaluatedRun], directions: Sequence[str] | None, groups: Mapping[str, str] | None
) -> list[ComparedRun]:
    """The runs, in their order.

    Args:
        runs: at least one, evaluated.
        directions: those to compare; None: all.
        groups: resource level of directions, pairs and languages; None: as the runs were evaluated.

    Raises:
        DataError: the runs were scored on different text or in different ways, or have groups of one name with
            different members; or one is no longer where it was.
    """
    names = tuple(directions or runs[0].by_direction)
    problems = list(dict.fromkeys(_differences(runs, names, exact=directions is None)))
    if not problems and groups is None:
        problems = list(_differences_of_groups(runs, names))
    if problems:
        raise DataError("\n".join(problems))
    return [_compared(run, names, groups) for run in runs]


def _differences(runs: Sequence[EvaluatedRun], names: Sequence[str], *, exact: bool) -> Iterator[str]:
    """Why the scores of some runs cannot stand in one table with those of the first."""
    first = runs[0]
    for run in runs:
        scored = run.by_direction
        if missing := [name for name in names if name not in scored]:
            has = f", which {first.name} has" if exact else ""
            yield f"{run.name}: has no scores of {_listed(missing)}{has}; evaluate them, or name others by --directions"
        if exact and (more := [name for name in scored if name not in names]):
            yield (
                f"{run.name}: has scores of {_listed(more)}, which {first.name} has not; evaluate them there, or "
                f"compare --directions {','.join(name for name in names if name in scored)}"
            )
        if run.evaluation.split != first.evaluation.split:
            splits = f"{run.evaluation.split}, not {first.evaluation.split} as {first.name}"
            yield _other(run, f"scored on {splits}")
        yield from _differences_of_text(run, first, [name for name in names if name in scored])


def _differences_of_text(run: EvaluatedRun, first: EvaluatedRun, names: Sequence[str]) -> Iterator[str]:
    """Directions that are scored on other text, or by another tokenizer, than in the first run."""
    pairs = {name: (run.by_direction[name], first.by_direction[name]) for name in names if name in first.by_direction}
    if any(not own.text for own, _ in pairs.values()):
        yield f"{run.name}: its scores do not say which text they are of; evaluate it again"
    elif other := [name for name, (own, of_first) in pairs.items() if own.text != of_first.text and of_first.text]:
        own, of_first = pairs[other[0]]
        sizes = f"{own.sentences} sentences" + (
            "" if own.sentences == of_first.sentences else f", not {of_first.sentences}"
        )
        yield _other(run, f"scored on other text than {first.name} in {_listed(other)} ({sizes})")
    if other := [name for name, (own, of_first) in pairs.items() if own.tokenizer != of_first.tokenizer]:
        own, of_first = pairs[other[0]]
        tokenizers = f"{own.tokenizer}, not {of_first.tokenizer}"
        yield _other(run, f"BLEU is by other tokenizers than of {first.name} in {_listed(other)} ({tokenizers})")


def _differences_of_groups(runs: Sequence[EvaluatedRun], names: Sequence[str]) -> Iterator[str]:
    """Groups of directions that have the name of another run's, but not its members."""
    known: dict[str, tuple[EvaluatedRun, list[str]]] = {}
    for run in runs:
        levels = [run.by_direction[name].level for name in names]
        for group, places in grouped(names, levels, smallest=1).items():
            members = [names[place] for place in places]
            first, of_first = known.setdefault(group, (run, members))
            if members != of_first:
                yield (
                    f"{run.name}: its group {group} is {_listed(members)}, not {_listed(of_first)} as of {first.name}; "
                    "name one file of groups for all with --groups, or evaluate them with the same"
                )


def _other(run: EvaluatedRun, how: str) -> str:
    return f"{run.name}: {how}; evaluate both on one test set, in one way"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _compared(run: EvaluatedRun, names: Sequence[str], groups: Mapping[str, str] | None) -> ComparedRun:
    folder = RunFolder(_folder(run))
    model = open_trained(folder.path, device="cpu")
    config = model.config
    plan = make_plan(config, vocab_size=model.tokenizer.vocab_size)
    step = int(run.evaluation.checkpoint["step"])
    scores = [run.by_direction[name] for name in names]
    if groups is not None:
        scores = [replace(one, level=level_of(one.direction, groups)) for one in scores]
    capacity, logged = (None, False) if config.smoe.moe.is_dense else _requested_capacity(folder, step)
    return ComparedRun(
        name=run.name,
        step=step,
        directions=tuple(scores),
        parameters=model.num_parameters,
        flops_per_token=plan.flops_per_token,
        lacks_experts=bool(model.removed_experts),
        requested_capacity=capacity,
        logged=logged,
        decode=run.evaluation.decode,
    )


def _folder(run: EvaluatedRun) -> Path:
    """The folder of the model: where the scores lie, or where they say that they are from."""
    for folder in (run.file.parent, Path(run.evaluation.run)):
        if RunFolder(folder).config.is_file():
            return folder
    raise DataError(f"{run.file}: is of {run.evaluation.run}, which is not there; name the run folder")


def _requested_capacity(folder: RunFolder, step: int) -> tuple[float | None, bool]:
    """As analysed, else as logged in training up to the step; and whether it is that."""
    analysed = analysed_requested_capacity(folder.analysis, step)
    if analysed is not None:
        return analysed, False
    checkpoint = folder.checkpoint(step)
    try:
        return measured_requested_capacity(checkpoint if checkpoint.is_dir() else folder.path), True
    except SmoeError:
        return None, False
