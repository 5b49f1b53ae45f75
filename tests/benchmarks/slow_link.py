"""What benchmarks of an exchange over a slow link share: two ranks, each on a host of its own, at several speeds."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from smoe_ds.parallel.ports import free_port
from tests.benchmarks.measure import report
from tests.helpers.hosts import two_hosts, why_not

Rows = list[dict[str, Any]]


def on_two_hosts(module: str, argv: Sequence[str], megabits_per_second: float | None, timeout: float) -> Any:
    """What rank 0 of ``python -m MODULE --rank ARGV`` prints last, as JSON; both ranks talk over the link.

    Args:
        module: the benchmark.
        argv: its arguments.
        megabits_per_second: speed of the link; None: no limit.
        timeout: for all of it [s].
    """
    with two_hosts(megabits_per_second) as hosts:
        environment = {"MASTER_ADDR": hosts[0].address, "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(len(hosts))}
        environment |= {"LOCAL_RANK": "0", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", module, "--rank", *argv]
        ranks = [host.start(command, {**environment, "RANK": str(rank)}, stdout=-1) for rank, host in enumerate(hosts)]
        try:
            outputs = [rank.communicate(timeout=timeout)[0] for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
    return json.loads(outputs[0].strip().splitlines()[-1])


def run(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    *,
    speeds: Sequence[float],
    repeats: int,
    rank_main: Callable[[argparse.Namespace], None],
    measure: Callable[[float | None, argparse.Namespace, Sequence[str]], Rows],
    title: str,
) -> Rows:
    """Parses, measures each speed and prints the table; as one of the ranks, does a rank's work.

    Args:
        parser: with the benchmark's own arguments.
        argv: arguments; None: the process's.
        speeds: default of ``--mbit``.
        repeats: default of ``--repeats``.
        rank_main: a rank's work.
        measure: rows of one speed; None: no limit.
        title: of the table.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser.add_argument("--mbit", type=float, nargs="+", default=list(speeds), help="Mbit/s; 0: no limit")
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds that count")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one speed")
    parser.add_argument("--json", help="file for the rows")
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.rank:
        rank_main(args)
        return []
    if problem := why_not():
        raise SystemExit(f"network namespaces: {problem}")
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    rows = [row for mbit in args.mbit for row in measure(mbit or None, args, argv)]
    report(f"{title}, two ranks", rows, args.json)
    return rows
