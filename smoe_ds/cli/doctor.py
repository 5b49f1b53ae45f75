"""``smoe-ds doctor RUN.json``: whether a run can start here, started as it would be: alone or under any launcher."""

from __future__ import annotations

import argparse
import json
import socket
import sys
from typing import TYPE_CHECKING

from smoe_ds.cli.arguments import add_local_rank, add_run_arguments
from smoe_ds.errors import ConfigError, LaunchError

if TYPE_CHECKING:
    from smoe_ds.doctor.context import Context
    from smoe_ds.doctor.examination import Examination

HELP = "check whether a run can start here (memory, disks, network, data), and say what to fix if it cannot"
_GO, _NO_GO = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.description = (
        "Check whether a run can start here. Start the doctor exactly as you would start the training: with the same "
        "launcher and on the same hosts, for example srun python -m smoe_ds doctor RUN.json. Every rank runs the "
        "checks, and rank 0 prints the results. Nothing is trained, and no files are left behind."
    )
    parser.epilog = (
        "Signs: a tick means fine; ! means good to know, but the run can start; a cross means it cannot start, and the "
        "line below says what to do; - means the check does not apply. Exit code: 0 the run can start, 1 it cannot, "
        "2 wrong usage."
    )
    add_run_arguments(parser)
    parser.add_argument(
        "--quick", action="store_true", help="do not compile DeepSpeed's Adam for the CPU, which takes a minute or two"
    )
    parser.add_argument(
        "--full", action="store_true", help="read every byte of the corpus and of the newest checkpoint"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long a check may take, and how long ranks wait for each other, before it counts as failed "
        "(default: 60)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    add_local_rank(parser)


def run(args: argparse.Namespace) -> int:
    """Examines; exit code 0 when the run can start, 1 when not, the same on all ranks."""
    from smoe_ds.config import load_run
    from smoe_ds.doctor.context import Context
    from smoe_ds.doctor.meeting import Meeting
    from smoe_ds.parallel.launchers import discover
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
    return _GO if _examined(args, context).go else _NO_GO


def _examined(args: argparse.Namespace, context: Context) -> Examination:
    """Runs all checks; rank 0 prints, all know whether the run can start."""
    from smoe_ds.doctor.checks import all_checks
    from smoe_ds.doctor.examination import Examination, may_go
    from smoe_ds.doctor.examine import examine
    from smoe_ds.doctor.run_folder import folder_made
    from smoe_ds.report.findings import Report, start_text

    meeting, lines = context.meeting, []
    report = Report(sys.stdout) if meeting.rank == 0 and not args.json else None
    if report is not None:
        start = start_text(context.env.world_size, len(meeting.speakers), context.env.launcher)
        report.title(f"smoe-ds doctor {args.run_file}: {start}")
    with folder_made(context.output_dir):
        for line in examine(context, all_checks(full=args.full)):
            lines.append(line)
            if report is not None:
                report.line(line)
        found = Examination(tuple(lines), bool(meeting.tell("verdict", may_go(lines))))
    if report is not None:
        report.verdict(lines)
    elif meeting.rank == 0:
        _print_json(found)
    meeting.leave()
    return found


def _cannot_meet(args: argparse.Namespace, text: str) -> int:
    """No rank knows of another: each says it for itself."""
    from smoe_ds.doctor.examination import Examination
    from smoe_ds.doctor.finding import FAILED
    from smoe_ds.doctor.merge import Line
    from smoe_ds.report.findings import print_examination

    problem, _, remedy = text.partition("; ")
    found = Examination((Line("launcher", FAILED, "", problem, remedy, ()),), go=False)
    if args.json:
        _print_json(found)
    else:
        print_examination(found, f"smoe-ds doctor {args.run_file}", sys.stdout)
    return _NO_GO


def _print_json(found: Examination) -> None:
    print(json.dumps(found.as_json(), indent=1, ensure_ascii=False))
