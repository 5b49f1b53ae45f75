"""``smoe-ds plan RUN.json``: parameters, FLOPs, exchange and memory of a run before it starts, or its time at scale."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.cli import plan_at_scale
from smoe_ds.cli.arguments import add_run_arguments
from smoe_ds.cli.messages import warn
from smoe_ds.errors import ConfigError

if TYPE_CHECKING:
    from smoe_ds.config.run import RunConfig

HELP = "show parameters, FLOPs, memory and traffic of a run before you start it, and predict its speed at scale"
_COUNTS = ("world_size", "vocab_size", "gpus_per_node", "ports", "micro_batches")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.epilog = "It needs no data and no GPU: everything is computed from the run file."
    add_run_arguments(parser, optional=True)
    parser.add_argument(
        "--world-size", type=int, metavar="N", help="number of ranks (default: smoe.moe.ep_size; 1 for a dense model)"
    )
    parser.add_argument(
        "--vocab-size",
        type=int,
        metavar="V",
        help="vocabulary size (default: that of the prepared corpus, else smoe.data.vocab_size, else 32000)",
    )
    parser.add_argument(
        "--run",
        type=Path,
        metavar="RUN_DIR",
        help="also plan with the requested capacity that this run measured; a checkpoint, average or export of a run "
        "will do too",
    )
    plan_at_scale.add_arguments(parser)
    parser.add_argument(
        "--paper", action="store_true", help="show every row of the paper's two tables beside the published values"
    )
    parser.add_argument(
        "--systems",
        action="store_true",
        help="show every system at the sizes of the run, with as many experts, and the settings that make it",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(args: argparse.Namespace) -> int:
    """Prints the plan on stdout, warnings on stderr."""
    if args.paper:
        return _paper(args)
    if args.run_file is None:
        raise ConfigError("smoe-ds plan: which run? Name a file such as ds_configs/m15.json, or give --paper")
    from smoe_ds.config import check_world, load_run
    from smoe_ds.planning.vocabulary import planned_vocab_size

    config = load_run(args.run_file, args.overrides)
    for name in _COUNTS:
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} {value}: expected 1 or more")
    if args.world_size is not None:
        check_world(config, args.world_size)
    vocab_size, source = (args.vocab_size, "given") if args.vocab_size else planned_vocab_size(config)
    if args.systems:
        return _systems(args, config, vocab_size, source)
    if args.nodes is not None:
        return plan_at_scale.run(args, config, vocab_size)
    plan_at_scale.refuse_arguments(args)
    return _plan(args, config, vocab_size, source)


def _plan(args: argparse.Namespace, config: RunConfig, vocab_size: int, source: str) -> int:
    from smoe_ds.planning.plan import make_plan
    from smoe_ds.report.plan import plan_page

    plan = make_plan(config, vocab_size=vocab_size, world_size=args.world_size, run_folder=args.run)
    text = plan_page(args.run_file, config, plan, source).text()
    print(json.dumps(plan.as_json(), indent=1) if args.json else text)
    for warning in plan.warnings:
        warn(warning)
    return 0


def _systems(args: argparse.Namespace, config: RunConfig, vocab_size: int, source: str) -> int:
    from smoe_ds.planning.systems import system_rows
    from smoe_ds.report.systems import systems_page

    for name in ("nodes", "run", "world_size"):
        if getattr(args, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')}: does not work together with --systems; leave one out")
    plan_at_scale.refuse_arguments(args)
    rows = system_rows(config, vocab_size)
    text = systems_page(args.run_file, rows, vocab_size, source).text()
    print(json.dumps([row.as_json() for row in rows], indent=1) if args.json else text)
    return 0


def _paper(args: argparse.Namespace) -> int:
    from smoe_ds.planning.paper_tables import paper_rows
    from smoe_ds.report.plan import paper_page

    rows = paper_rows()
    print(json.dumps([row.as_json() for row in rows], indent=1) if args.json else paper_page(rows).text())
    return 0
