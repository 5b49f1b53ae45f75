"""A plan: parameters, compute, exchange and memory of a run; and the paper's tables beside what is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from smoe_ds.config.run import RunConfig
from smoe_ds.planning.paper_tables import PaperRow
from smoe_ds.planning.plan import Plan
from smoe_ds.report.pages import Block, Figure, Figures, Lines, Page
from smoe_ds.report.tables import RULE, Cell, Column, Marked, Table
from smoe_ds.report.units import binary_bytes, si

_MEMORY_NOTES = {"total": "backward pass or update, whichever is larger", "update": "not beside the three above"}
_HOST_NOTES = {
    "master_weights": "offload",
    "frozen_weights": "in fp32, so that checkpoints have them as they were loaded",
}


def plan_page(name: str, run: RunConfig, plan: Plan, vocab_source: str) -> Page:
    """What ``smoe-ds plan`` prints of a run.

    Args:
        name: the run file.
        run: the run.
        plan: its plan.
        vocab_source: where the vocabulary size is from, in words.
    """
    moe = run.smoe.moe
    kind = [] if moe.router.kind == "top_k" else [f"router {moe.router.kind}"]
    router = ", ".join([*kind, f"top_k {moe.top_k}"] if "top_k" in moe.router.heeds else kind)
    head = Lines(
        (
            f"{name}: strata {moe.strata}, {router}, {plan.world_size} rank(s), ep_size {moe.ep_size}, "
            f"ZeRO {run.zero_stage}, {run.precision}",
            f"vocabulary {plan.vocab_size:,} ({vocab_source})",
        )
    )
    blocks: list[Block] = [head, _parameters(plan), _compute(run, plan)]
    if moe.ep_size > 1 and not moe.is_dense:
        blocks.append(_exchange(plan))
    tokens = f"{run.smoe.data.max_tokens:,}"
    heading = f"memory per device, a full micro-batch of {tokens} tokens (estimate)"
    experts = {} if moe.is_dense else {"activations": f"experts computed by the {plan.expert_backend} backend"}
    sizes = {kind: size for kind, size in plan.memory.items() if size}
    blocks.append(_bytes(heading, sizes, _MEMORY_NOTES | experts))
    if plan.host_memory:
        blocks.append(_bytes("memory on the host per rank", plan.host_memory, _HOST_NOTES))
    return Page(tuple(blocks))


def _parameters(plan: Plan) -> Figures:
    counts = {kind.replace("_", " "): count for kind, count in plan.parameters.items() if count}
    if plan.trainable_parameters < plan.parameters["total"]:
        counts["trained"] = plan.trainable_parameters
    counts["on one device"] = plan.parameters_per_device
    if plan.paper_parameters:
        counts["as the paper counts"] = plan.paper_parameters
    return Figures("parameters", tuple(Figure(name, count, ",") for name, count in counts.items()))


def _compute(run: RunConfig, plan: Plan) -> Figures:
    return Figures("compute per token, uniform routing", tuple(_compute_figures(run, plan)))


def _compute_figures(run: RunConfig, plan: Plan) -> Iterator[Figure]:
    if not run.smoe.moe.is_dense:
        yield Figure("requested capacity", plan.expected_requested_capacity, ".3f")
        yield Figure("feed-forward networks/block", plan.ffns_per_token, ".3f")
    start = "dense part as published" if plan.dense_flops == "published" else "matrix products, no attention scores"
    yield Figure("FLOPs (forward)", plan.flops_per_token, si, start)
    if plan.training_passes > 1:
        flops = plan.training_passes * plan.flops_per_token
        yield Figure("FLOPs (forward, training)", flops, si, f"{plan.training_passes} passes and a consistency loss")
    if plan.measured_requested_capacity is not None:
        yield Figure("requested capacity, measured", plan.measured_requested_capacity, ".3f")
        yield Figure("FLOPs at that (forward)", plan.measured_flops_per_token or 0, si)


def _exchange(plan: Plan) -> Figures:
    per_stratum = ", ".join(f"{value:.2f}" for value in plan.placement["per_stratum"])
    return Figures(
        "expert parallelism",
        (
            Figure("busiest rank / mean", plan.placement["mean"], ".3f", f"per stratum {per_stratum}"),
            Figure("sent per rank and step", plan.exchange_bytes_per_step, binary_bytes),
        ),
    )


def _bytes(heading: str, sizes: Mapping[str, int], notes: Mapping[str, str]) -> Figures:
    figures = [Figure(kind.replace("_", " "), size, binary_bytes, notes.get(kind, "")) for kind, size in sizes.items()]
    return Figures(heading, tuple(figures))


def paper_page(rows: Sequence[PaperRow]) -> Page:
    """What ``smoe-ds plan --paper`` prints."""
    lines = ["* differs from the paper's own way of counting:"]
    lines += [f"  {row.table} {row.system}: {row.note}" for row in rows if row.note]
    lines += ["~ within the published rounding: the paper rounds to 1M, above 1,000M to 10M:"]
    lines += [
        f"  {row.table} {row.system}: {row.parameters / 1e6:,.1f}M is published as "
        f"{row.published_parameters / 1e9:.2f}B"
        for row in rows
        if row.only_rounded
    ]
    return Page((paper_table(rows), Lines(tuple(lines))))


def paper_table(rows: Sequence[PaperRow]) -> Table:
    """Every system of the paper's tables, computed and published, a line across between two tables."""
    columns = (
        Column("system", "system", "left"),
        Column("parameters (M)", "parameters", format=".1f"),
        Column("published", "published_parameters", format=".1f"),
        Column("off", "parameters_off", format=".1f"),
        Column("FLOPs/token (M)", "flops_per_token", format=".1f"),
        Column("published", "published_flops_per_token", format=".1f"),
        Column("off", "flops_off", format=".1f"),
    )
    cells: list[tuple[Cell, ...]] = []
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None and before.table != row.table:
            cells.append(RULE)
        cells.append(_paper_row(row))
    return Table(columns, tuple(cells))


def _paper_row(row: PaperRow) -> tuple[Cell, ...]:
    flops_off = row.flops_per_token - row.published_flops_per_token
    return (
        f"{row.table} {row.system}",
        row.parameters / 1e6,
        row.published_parameters / 1e6,
        Marked((row.parameters - row.published_parameters) / 1e6, "~" if row.only_rounded else ""),
        row.flops_per_token / 1e6,
        row.published_flops_per_token / 1e6,
        Marked(flops_off / 1e6, "*" if row.note else ""),
    )
