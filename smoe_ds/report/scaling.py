"""Predictions as text: one number of devices part by part, or a table over several."""

from __future__ import annotations

from collections.abc import Sequence

from smoe_ds.config.run import RunConfig
from smoe_ds.report.tables import text_table
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
HEADER = [
    "nodes",
    "GPUs",
    "batch",
    "s/step",
    "tokens/s",
    "efficiency",
    "exchange s",
    "reduction s",
    "GiB/GPU",
    "measured",
]


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


def table(run: RunConfig, constants: Constants, found: Sequence[Prediction | tuple[Topology, str]]) -> str:
    """A row per number of devices; below it, why there is none where there cannot be one."""
    rows: list[list[str | int | float | None]] = []
    problems = []
    for one in found:
        if isinstance(one, Prediction):
            parts = one.step.parts
            full = "" if one.fits or one.fits is None else " !"
            rows.append(
                [
                    str(one.nodes),
                    one.gpus,
                    one.train_batch_size,
                    f"{one.step.seconds:.4f}",
                    f"{one.step.tokens_per_second:,.0f}",
                    f"{one.efficiency:.3f}",
                    f"{parts['exchange']:.4f}",
                    f"{parts['reduction'] + parts['expert_reduction'] + parts['gather']:.4f}",
                    f"{one.memory / 2**30:.2f}{full}",
                    f"{sum(one.measured.values())} of {len(one.measured)} parts",
                ]
            )
        else:
            topology, problem = one
            rows.append([str(topology.nodes), topology.ranks, *[None] * (len(HEADER) - 2)])
            problems.append(f"{topology.ranks} GPUs: {problem}")
    title = (
        f"{run.source} on {constants.device}, ep_size {run.smoe.moe.ep_size}, ZeRO {run.zero_stage}, {run.precision}; "
        "predicted, with the constants below"
    )
    notes = ["! more than the device has"] if any("!" in str(row[8]) for row in rows) else []
    return "\n".join(
        [title, "", text_table(HEADER, rows), *notes, *problems, "", "constants", *constants_lines(constants)]
    )
