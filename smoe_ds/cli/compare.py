"""``smoe-ds compare RUN ...``: the paper's table out of several evaluated runs, with what they cost."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from smoe_ds.cli.formats import add_format, print_page

HELP = "compare evaluated runs in one table: scores by group, requested capacity, parameters, FLOPs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.epilog = (
        "It reads what smoe-ds evaluate wrote, and requested capacities that smoe-ds analyze wrote. Runs that were "
        "scored on different text are refused."
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="[NAME=]RUN",
        help="run folder, exported model or file of scores, perhaps with a name for the table: SMoE-4-12=runs/m15",
    )
    parser.add_argument(
        "--directions", metavar="A-B,...", help="directions to compare (default: all, the same in every run)"
    )
    parser.add_argument(
        "--groups",
        type=Path,
        metavar="FILE",
        help="YAML file of groups for means, for example low: [nso, eng-cat] (default: as the runs were evaluated)",
    )
    add_format(parser, "the tables")


def run(args: argparse.Namespace) -> int:
    """Prints the tables."""
    from smoe_ds.errors import ConfigError
    from smoe_ds.evaluate.evaluated_run import read_evaluated
    from smoe_ds.evaluate.resource_levels import read_groups, resource_levels
    from smoe_ds.report.compared_runs import compared_page
    from smoe_ds.study.compared_runs import compare_runs

    named = [_named(text) for text in args.runs]
    names = [name for name, _ in named]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"{twice}: is named twice; give each run a name of its own, for example first={twice}")
    evaluated = [read_evaluated(path, name) for name, path in named]
    directions = None
    if args.directions is not None:
        directions = list(dict.fromkeys(name.strip() for name in args.directions.split(",") if name.strip()))
        if not directions:
            raise ConfigError(f"--directions {args.directions!r}: names none, expected for example eng-nso,nso-eng")
    groups = None
    if args.groups:
        resource_levels(directions or list(evaluated[0].by_direction), {}, args.groups)  # it names some of them
        groups = read_groups(args.groups)
    runs = compare_runs(evaluated, directions, groups)
    page = compared_page(runs, evaluated[0].evaluation.bleu_name)
    print_page(page, args.format, json.dumps([one.as_json() for one in runs], indent=1, ensure_ascii=False))
    return 0


def _named(text: str) -> tuple[str, Path]:
    """Name and place of a run."""
    name, sign, path = text.partition("=")
    if not sign or not name or Path(text).exists():
        return text, Path(text)
    return name, Path(path)
