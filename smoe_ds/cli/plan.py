"""``smoe-ds plan RUN.json``: parameters, FLOPs, exchange and memory of a run before it starts, or its time at scale."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.cli.arguments import add_run_arguments
from smoe_ds.errors import ConfigError

if TYPE_CHECKING:
    from smoe_ds.config.run import RunConfig
    from smoe_ds.planning.plan import Plan
    from smoe_ds.scaling.collectives import Topology

HELP = "parameters, FLOPs, exchange and memory of a run before it starts; its time and throughput at scale"
_UNITS = (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_run_arguments(parser, optional=True)
    parser.add_argument("--world-size", type=int, metavar="N", help="ranks; default: smoe.moe.ep_size")
    parser.add_argument(
        "--vocab-size",
        type=int,
        metavar="V",
        help="default: that of the prepared corpus, else smoe.data.vocab_size, else 32000",
    )
    parser.add_argument(
        "--run",
        type=Path,
        metavar="RUN_DIR",
        help="a run, checkpoint, average or export, for its measured requested capacity",
    )
    _add_scale_arguments(parser)
    parser.add_argument(
        "--paper", action="store_true", help="every row of the paper's two tables beside the published values"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_scale_arguments(parser: argparse.ArgumentParser) -> None:
    scale = parser.add_argument_group("at scale", "predict step time, throughput and memory on so many hosts")
    scale.add_argument("--nodes", metavar="N[,N...]", help="hosts; several numbers make a table")
    scale.add_argument("--gpus-per-node", type=int, metavar="N", help="devices of a host (default: 8)")
    scale.add_argument(
        "--interconnect",
        metavar="NAME|FILE",
        help="links within (nvlink4, pcie3) and between hosts (ib-hdr, ib-edr, ethernet-10g), comma-separated; a JSON "
        "file describes another one",
    )
    scale.add_argument("--ports", type=int, metavar="N", help="ports of a host to the others (default: 1)")
    scale.add_argument("--device", metavar="NAME", help="published figures of v100, a100, h100 or h200")
    scale.add_argument("--constants", type=Path, metavar="FILE", help="measured constants, from smoe-ds calibrate")
    scale.add_argument(
        "--micro-batches",
        type=int,
        metavar="N",
        help="micro-batches per device and step: the batch grows with the devices (default: the run's batch is shared)",
    )


def run(args: argparse.Namespace) -> int:
    """Prints the plan on stdout, warnings on stderr."""
    if args.paper:
        return _paper(args.json)
    if args.run_file is None:
        raise ConfigError("smoe-ds plan: which run? Name a file such as ds_configs/m15.json, or give --paper")
    from smoe_ds.config import check_world, load_run
    from smoe_ds.planning.plan import make_plan

    config = load_run(args.run_file, args.overrides)
    for name in ("world_size", "vocab_size", "gpus_per_node", "ports", "micro_batches"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} {value}: expected 1 or more")
    if args.world_size is not None:
        check_world(config, args.world_size)
    vocab_size, source = (args.vocab_size, "given") if args.vocab_size else planned_vocab_size(config)
    if args.nodes is not None:
        return _at_scale(args, config, vocab_size)
    _refuse_scale_arguments(args)
    plan = make_plan(config, vocab_size=vocab_size, world_size=args.world_size, run_folder=args.run)
    print(json.dumps(plan.as_json(), indent=1) if args.json else _text(args.run_file, config, plan, source))
    for warning in plan.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def planned_vocab_size(config: RunConfig) -> tuple[int, str]:
    """The vocabulary size of the corpus, else what the run says of it, else the paper's; and where it is from."""
    from smoe_ds.data.manifest import TOKENIZER
    from smoe_ds.data.tokenizer import Tokenizer
    from smoe_ds.planning.paper_tables import VOCAB_SIZE

    data = config.smoe.data
    file = Path(data.path) / TOKENIZER
    if file.is_file():
        return Tokenizer(file).vocab_size, f"from {file}"
    if data.vocab_size is not None:
        return data.vocab_size, f"smoe.data.vocab_size; {data.path} is not prepared"
    return VOCAB_SIZE, f"assumed: {data.path} is not prepared; --vocab-size or smoe.data.vocab_size says otherwise"


def _refuse_scale_arguments(args: argparse.Namespace) -> None:
    for name in ("gpus_per_node", "interconnect", "ports", "device", "constants", "micro_batches"):
        if getattr(args, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')}: says something only beside --nodes; give that too")


def _at_scale(args: argparse.Namespace, config: RunConfig, vocab_size: int) -> int:
    """Prints what one number of hosts gives, part by part, or a table of several."""
    from smoe_ds.planning.plan import placement_warnings
    from smoe_ds.report.scaling import prediction_text, table
    from smoe_ds.run.requested_capacity import measured_requested_capacity
    from smoe_ds.scaling.constants import choose_constants
    from smoe_ds.scaling.predict import constants_warnings, predict, predict_all

    if args.world_size is not None:
        raise ConfigError("--world-size: follows from --nodes and --gpus-per-node; leave it out")
    topologies = _topologies(args)
    constants = choose_constants(
        config.precision,
        file=args.constants,
        device=args.device,
        interconnect=args.interconnect,
        ports=args.ports or 1,
    )
    settings = {
        "micro_batches": args.micro_batches,
        "requested_capacity": None if args.run is None else measured_requested_capacity(args.run),
    }
    if len(topologies) == 1:
        single = predict(config, vocab_size, constants, topologies[0], **settings)
        content: dict[str, Any] = single.as_json()
        text = prediction_text(config, constants, single)
    else:
        found = predict_all(config, vocab_size, constants, topologies, **settings)
        content = {"predictions": [_row_json(one) for one in found]}
        text = table(config, constants, found)
    content["constants"] = constants.as_json()
    print(json.dumps(content, indent=1) if args.json else text)
    for warning in [*constants_warnings(config, constants, topologies[0], vocab_size), *placement_warnings(config)]:
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def _topologies(args: argparse.Namespace) -> list[Topology]:
    from smoe_ds.scaling.collectives import Topology

    try:
        nodes = [int(word) for word in args.nodes.split(",")]
    except ValueError:
        nodes = []
    if not nodes or min(nodes) < 1:
        raise ConfigError(f"--nodes {args.nodes}: expected numbers of 1 or more, such as 16 or 1,2,4")
    return [Topology(number, args.gpus_per_node or 8) for number in nodes]


def _row_json(one: Any) -> dict[str, Any]:
    if isinstance(one, tuple):
        return {"nodes": one[0].nodes, "gpus_per_node": one[0].per_node, "gpus": one[0].ranks, "error": one[1]}
    row: dict[str, Any] = one.as_json()
    return row


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
    from smoe_ds.planning.paper_tables import paper_rows
    from smoe_ds.report.tables import text_table

    rows = paper_rows()
    if as_json:
        print(json.dumps([row.as_json() for row in rows], indent=1))
        return 0
    cells: list[list[Any]] = []
    for row in rows:
        if cells and row.table != rows[len([c for c in cells if c]) - 1].table:
            cells.append([])
        parameters_off = (row.parameters - row.published_parameters) / 1e6
        flops_off = row.flops_per_token - row.published_flops_per_token
        cells.append(
            [
                f"{row.table} {row.system}",
                row.parameters / 1e6,
                row.published_parameters / 1e6,
                f"{parameters_off:.1f}{' ~' if row.only_rounded else ''}",
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
    print("~ within the published rounding: the paper rounds to 1M, above 1,000M to 10M:")
    for row in rows:
        if row.only_rounded:
            published = f"{row.published_parameters / 1e9:.2f}B"
            print(f"  {row.table} {row.system}: {row.parameters / 1e6:,.1f}M is published as {published}")
    return 0


def _si(value: float) -> str:
    unit, size = next(((unit, size) for unit, size in _UNITS if value >= size), ("", 1))
    return f"{value / size:.1f}{unit}"


def _bytes(value: float) -> str:
    unit, size = next((u for u in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)) if value >= u[1]), ("B", 1))
    return f"{value / size:.2f} {unit}"
