"""``smoe-ds doctor RUN.json``: whether a run can start here, started as it would be: alone or under any launcher."""

from __future__ import annotations

import argparse
import json
import socket
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from smoe_ds.cli.arguments import add_run_arguments
from smoe_ds.errors import ConfigError, LaunchError

if TYPE_CHECKING:
    from smoe_ds.doctor.context import Context
    from smoe_ds.doctor.merge import Line

HELP = "check whether a run can start here: memory, disks, network, data; and what to do where it cannot"
_GO, _NO_GO = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.description = (
        "Check whether a run can start here. Start it as you would start the training: under the same launcher, on the "
        "same hosts, e.g. srun python -m smoe_ds doctor RUN.json. Every rank looks, rank 0 prints. Nothing is trained, "
        "no file is left behind. A tick says that something is in order, ! that it should be known but stops nothing, "
        "a cross that it is in the way, - that it does not apply and why; what to do stands below. Exit code: 0 go, "
        "1 no go, 2 wrong usage."
    )
    add_run_arguments(parser)
    parser.add_argument(
        "--quick", action="store_true", help="do not compile DeepSpeed's Adam, which takes a minute or two"
    )
    parser.add_argument(
        "--full", action="store_true", help="read every byte of the corpus and of the newest checkpoint"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="what a check may take, and how long ranks wait for each other, before it counts as failed (default: 60)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    # The deepspeed launcher adds --local_rank to every process; the environment says the same.
    parser.add_argument("--local_rank", type=int, default=None, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Examines; exit code 0 when the run can start, 1 when not, the same on all ranks."""
    from smoe_ds.config import load_run
    from smoe_ds.doctor.context import Context
    from smoe_ds.doctor.meeting import Meeting
    from smoe_ds.parallel.discover import discover
    from smoe_ds.parallel.process_group import with_meeting_point

    if args.timeout <= 0:
        raise ConfigError(f"--timeout {args.timeout:g}: expected more than 0 seconds")
    config = load_run(args.run_file, args.overrides)
    try:
        env = with_meeting_point(discover())
        meeting = Meeting(env, socket.gethostname(), args.timeout)
    except LaunchError as error:
        return _cannot_meet(args, str(error))
    context = Context(config, env, meeting, quick=args.quick, full=args.full, seconds=args.timeout)
    return _GO if _examined(args, context) else _NO_GO


def _examined(args: argparse.Namespace, context: Context) -> bool:
    """Whether all checks let the run go; rank 0 prints, all know."""
    from smoe_ds.doctor.checks import all_checks
    from smoe_ds.doctor.examine import examine
    from smoe_ds.doctor.report import Report, may_go
    from smoe_ds.doctor.run_folder import folder_made

    meeting, lines = context.meeting, []
    report = Report(sys.stdout) if meeting.rank == 0 and not args.json else None
    if report is not None:
        report.title(f"smoe-ds doctor {args.run_file}: {_start(context)}")
    with folder_made(context.output_dir):
        for line in examine(context, all_checks(full=args.full)):
            lines.append(line)
            if report is not None:
                report.line(line)
        go = bool(meeting.tell("verdict", may_go(lines)))
    if report is not None:
        report.verdict(lines)
    elif meeting.rank == 0:
        _print_json(lines, go)
    meeting.leave()
    return go


def _start(context: Context) -> str:
    ranks, hosts = context.env.world_size, len(context.meeting.speakers)
    number = f"{ranks} rank{'s' if ranks > 1 else ''} on {hosts} host{'s' if hosts > 1 else ''}"
    return f"{number}, started by {context.env.launcher}" if ranks > 1 else number


def _cannot_meet(args: argparse.Namespace, text: str) -> int:
    """No rank knows of another: each says it for itself."""
    from smoe_ds.doctor.finding import FAILED
    from smoe_ds.doctor.merge import Line
    from smoe_ds.doctor.report import Report

    found, _, remedy = text.partition("; ")
    line = Line("launcher", FAILED, "", found, remedy, ())
    if args.json:
        _print_json([line], False)
    else:
        report = Report(sys.stdout)
        report.title(f"smoe-ds doctor {args.run_file}")
        report.line(line)
        report.verdict([line])
    return _NO_GO


def _print_json(lines: list[Line], go: bool) -> None:
    print(json.dumps({"go": go, "findings": [asdict(line) for line in lines]}, indent=1, ensure_ascii=False))
