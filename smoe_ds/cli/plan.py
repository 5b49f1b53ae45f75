"""``smoe-ds plan RUN.json``: parameters, FLOPs, exchange and memory of a run before it starts."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.cli.validate import add_run_arguments
from smoe_ds.errors import ConfigError

if TYPE_CHECKING:
    from smoe_ds.analysis.plan import Plan
    from smoe_ds.config.run import RunConfig

HELP = "parameters, FLOPs, exchange and memory of a run before it starts"
_UNITS = (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_run_arguments(parser, optional=True)
    parser.add_argument("--world-size", type=int, metavar="N", help="ranks; default: smoe.moe.ep_size")
    parser.add_argument(
        "--vocab-size", type=int, metavar="V", help="default: that of the prepared corpus, 32000 where there is none"
    )
    parser.add_argument("--run", type=Path, metavar="RUN_DIR", help="a run, for its measured requested capacity")
    parser.add_argument(
        "--paper", action="store_true", help="every row of the paper's two tables beside the published values"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the plan on stdout, warnings on stderr."""
    if args.paper:
        return _paper(args.json)
    if args.run_file is None:
        raise ConfigError("smoe-ds plan: which run? Name a file such as ds_configs/m15.json, or give --paper")
    from smoe_ds.analysis.plan import make_plan
    from smoe_ds.config import check_world, load_run

    config = load_run(args.run_file, args.overrides)
    for name, value in (("--world-size", args.world_size), ("--vocab-size", args.vocab_size)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} {value}: expected 1 or more")
    if args.world_size is not None:
        check_world(config, args.world_size)
    vocab_size, source = (args.vocab_size, "given") if args.vocab_size else _vocab_size(config)
    plan = make_plan(config, vocab_size=vocab_size, world_size=args.world_size, run_folder=args.run)
    print(json.dumps(plan.as_json(), indent=1) if args.json else _text(args.run_file, config, plan, source))
    for warning in plan.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def _vocab_size(config: RunConfig) -> tuple[int, str]:
    """The corpus's vocabulary size, or the paper's, and where it is from."""
    from smoe_ds.analysis.paper_tables import VOCAB_SIZE
    from smoe_ds.data.tokenizer import Tokenizer

    file = Path(config.smoe.data.path) / "tokenizer.model"
    if file.is_file():
        return Tokenizer(file).vocab_size, f"from {file}"
    return VOCAB_SIZE, f"assumed: {config.smoe.data.path} is not prepared; --vocab-size says otherwise"


def _text(name: str, config: RunConfig, plan: Plan, vocab_source: str) -> str:
    moe = config.smoe.moe
    parameters = {kind: count for kind, count in plan.parameters.items() if count}
    lines = [
        f"{name}: strata {moe.strata}, top_k {moe.top_k}, {plan.world_size} rank(s), ep_size {moe.ep_size}, "
        f"ZeRO {config.zero_stage}, {config.precision}",
        f"vocabulary {plan.vocab_size:,} ({vocab_source})",
        "",
        "parameters",
        *(f"  {kind.replace('_', ' '):<28}{count:>16,}" for kind, count in parameters.items()),
        f"  {'on one device':<28}{plan.parameters_per_device:>16,}",
        *([f"  {'as the paper counts':<28}{plan.paper_parameters:>16,}"] if plan.paper_parameters else []),
        "",
        "compute per token, uniform routing",
    ]
    if not moe.is_dense:
        lines += [
            f"  {'requested capacity':<28}{plan.expected_requested_capacity:>16.3f}",
            f"  {'feed-forward networks/block':<28}{plan.ffns_per_token:>16.3f}",
        ]
    start = "dense part as published" if plan.dense_flops == "published" else "matrix products, no attention scores"
    lines.append(f"  {'FLOPs (forward)':<28}{_si(plan.flops_per_token):>16}  {start}")
    if plan.measured_requested_capacity is not None:
        lines += [
            f"  {'requested capacity, measured':<28}{plan.measured_requested_capacity:>16.3f}",
            f"  {'FLOPs at that (forward)':<28}{_si(plan.measured_flops_per_token or 0):>16}",
        ]
    if moe.ep_size > 1 and not moe.is_dense:
        per_stratum = ", ".join(f"{value:.2f}" for value in plan.placement["per_stratum"])
        lines += [
            "",
            "expert parallelism",
            f"  {'busiest rank / mean':<28}{plan.placement['mean']:>16.3f}  per stratum {per_stratum}",
            f"  {'sent per rank and step':<28}{_bytes(plan.exchange_bytes_per_step):>16}",
        ]
    lines += ["", f"memory per device, a full micro-batch of {config.smoe.data.max_tokens:,} tokens (estimate)"]
    notes = {"total": "backward pass or update, whichever is larger", "update": "not beside the three above"}
    lines += [
        f"  {kind.replace('_', ' '):<28}{_bytes(value):>16}  {notes.get(kind, '')}".rstrip()
        for kind, value in plan.memory.items()
        if value
    ]
    if plan.host_memory:
        lines += ["", "memory on the host per rank (offload)"]
        lines += [f"  {kind.replace('_', ' '):<28}{_bytes(value):>16}" for kind, value in plan.host_memory.items()]
    return "\n".join(lines)


def _paper(as_json: bool) -> int:
    from smoe_ds.analysis.paper_tables import paper_rows
    from smoe_ds.analysis.tables import text_table

    rows = paper_rows()
    if as_json:
        print(json.dumps([row.as_json() for row in rows], indent=1))
        return 0
    cells: list[list[Any]] = []
    for row in rows:
        if cells and row.table != rows[len([c for c in cells if c]) - 1].table:
            cells.append([])
        flops_off = row.flops_per_token - row.published_flops_per_token
        cells.append(
            [
                f"{row.table} {row.system}",
                row.parameters / 1e6,
                row.published_parameters / 1e6,
                (row.parameters - row.published_parameters) / 1e6,
                row.flops_per_token / 1e6,
                row.published_flops_per_token / 1e6,
                f"{flops_off / 1e6:.1f}{' *' if row.note else ''}",
            ]
        )
    header = ["system", "parameters (M)", "published", "off", "FLOPs/token (M)", "published", "off"]
    print(text_table(header, cells, digits=1))
    print("\n* differs from the paper's own way of counting:")
    for row in rows:
        if row.note:
            print(f"  {row.table} {row.system}: {row.note}")
    print("The paper rounds to 1M, above 1,000M to 10M.")
    return 0


def _si(value: float) -> str:
    unit, size = next(((unit, size) for unit, size in _UNITS if value >= size), ("", 1))
    return f"{value / size:.1f}{unit}"


def _bytes(value: float) -> str:
    unit, size = next((u for u in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)) if value >= u[1]), ("B", 1))
    return f"{value / size:.2f} {unit}"
