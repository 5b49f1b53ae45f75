"""Predictions as text: one number of devices part by part, or a table over several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smoe_ds.config.run import RunConfig
from smoe_ds.report.pages import Lines, Page
from smoe_ds.report.tables import Cell, Column, Marked, Table
from smoe_ds.scaling.collectives import Topology
from smoe_ds.scaling.constants import KINDS, Constants
from smoe_ds.scaling.predict import Prediction

PART_NAMES = {
    "dense": "attention, dense layers, loss",
    "experts": "experts (busiest rank)",
    "routing": "gates and rows",
    "exchange": "exchange of rows",
    "reduction": "gradients, dense",
    "expert_reduction": "gradients, experts",
    "gather": "gathering of weights",
    "optimizer": "optimizer",
    "offload": "to the host and back",
    "data": "waiting for data",
    "other": "small sums over ranks",
}
COLUMNS = (
    Column("nodes", "nodes", "left"),
    Column("GPUs", "gpus"),
    Column("batch", "train_batch_size"),
    Column("s/step", "seconds", format=".4f"),
    Column("tokens/s", "tokens_per_second", format=",.0f"),
    Column("efficiency", "efficiency", format=".3f"),
    Column("exchange s", "exchange_seconds", format=".4f"),
    Column("reduction s", "reduction_seconds", format=".4f"),
    Column("GiB/GPU", "memory_gib", format=".2f"),
    Column("measured", "measured"),
)


def prediction_text(run: RunConfig, constants: Constants, found: Prediction) -> str:
    """One prediction, part by part, and the constants it rests on."""
    step = found.step
    lines = [
        f"{run.source} on {found.nodes} x {found.gpus_per_node} {constants.device} ({found.gpus} ranks), ep_size "
        f"{found.ep_size}, ZeRO {run.zero_stage}, {run.precision}; {found.train_batch_size} micro-batches a step",
        "",
        f"  {'seconds of a step, predicted':<32}{step.seconds:>12.4f}",
    ]
    for name, seconds in step.parts.items():
        if seconds:
            lines.append(f"    {PART_NAMES[name]:<30}{seconds:>12.4f}  {origin(found.measured[name])}")
    if step.hidden_reduction:
        lines.append(f"    {'(gradients beside the backward)':<30}{step.hidden_reduction:>11.4f}")
    for number, one in enumerate(step.exchange, 1):
        if one.sent_bytes:
            name = f"exchange of stratum {number}"
            lines.append(
                f"  {name:<32}{one.forward + one.backward:>12.4f}  forward {one.forward:.4f}, "
                f"backward {one.backward:.4f}, {one.sent_bytes / 2**20:.1f} MiB sent per rank"
            )
    limit = "" if constants.memory_bytes is None else f"  of {constants.memory_bytes / 2**30:.1f}"
    lines += [
        f"  {'tokens per second':<32}{step.tokens_per_second:>12,.0f}",
        f"  {'efficiency, to one device':<32}{found.efficiency:>12.3f}",
        f"  {'memory per device (GiB)':<32}{found.memory / 2**30:>12.2f}{limit}",
        "",
        "constants",
        *constants_lines(constants),
    ]
    return "\n".join(lines)


def origin(measured: bool) -> str:
    """``measured`` or ``assumed``."""
    return "measured" if measured else "assumed"


def constants_lines(constants: Constants) -> list[str]:
    """Every constant: rate, cost of a call, and where it is from."""
    lines = []
    for kind in KINDS:
        if kind in constants.lines:
            one = constants.lines[kind]
            source = f": {one.source}" if one.source else ""
            name, unit = kind.replace("_", " "), f"{KINDS[kind].split()[0]}/s"
            rate = f"{one.line.per_second:>11.3e} {unit:<13}{one.line.fixed * 1e6:>10.1f} us a call"
            lines.append(f"  {name:<20}{rate}  {origin(one.measured)}{source}")
    here = constants.circumstances
    if here:
        lines.append(
            f"  measured on {constants.device}, {here.get('hosts')} host(s) x {here.get('ranks_per_host')} rank(s), "
            f"{here.get('threads')} thread(s) each of {here.get('cores')} cores, {here.get('date')}"
        )
    return lines


def worst_fit_text(constants: Constants) -> str:
    """The measured constant whose points lie furthest from its line, and how far."""
    far, worst = max((one.misfit(), kind.replace("_", " ")) for kind, one in constants.lines.items())
    return f"furthest from its line: {worst}, {far:.0%}"


def predictions_page(run: RunConfig, constants: Constants, found: Sequence[Prediction | tuple[Topology, str]]) -> Page:
    """A row per number of devices; below it, why there is none where there cannot be one; then the constants."""
    title = (
        f"{run.source} on {constants.device}, ep_size {run.smoe.moe.ep_size}, ZeRO {run.zero_stage}, {run.precision}; "
        "predicted, with the constants below"
    )
    return Page((Lines((title,)), predictions_table(found), Lines(("constants", *constants_lines(constants)))))


def predictions_table(found: Sequence[Prediction | tuple[Topology, str]]) -> Table:
    """A row per number of devices, and notes on those that are too small or cannot be."""
    too_small = any(isinstance(one, Prediction) and one.fits is False for one in found)
    notes = ["! more than the device has"] if too_small else []
    notes += [f"{one[0].ranks} GPUs: {one[1]}" for one in found if not isinstance(one, Prediction)]
    return Table(COLUMNS, tuple(map(_row, found)), tuple(notes))


def _row(one: Prediction | tuple[Topology, str]) -> tuple[Cell, ...]:
    if not isinstance(one, Prediction):
        return (one[0].nodes, one[0].ranks, *[None] * (len(COLUMNS) - 2))
    parts = one.step.parts
    return (
        one.nodes,
        one.gpus,
        one.train_batch_size,
        one.step.seconds,
        one.step.tokens_per_second,
        one.efficiency,
        parts["exchange"],
        parts["reduction"] + parts["expert_reduction"] + parts["gather"],
        Marked(one.memory / 2**30, "!" if one.fits is False else ""),
        f"{sum(one.measured.values())} of {len(one.measured)} parts",
    )


def prediction_json(one: Prediction | tuple[Topology, str]) -> dict[str, Any]:
    """A prediction, or why there is none."""
    if isinstance(one, Prediction):
        return one.as_json()
    topology, problem = one
    return {"nodes": topology.nodes, "gpus_per_node": topology.per_node, "gpus": topology.ranks, "error": problem}
