"""``smoe-ds study STUDY.yaml``: trains several systems with several seeds alike, and compares them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.cli.files import check_page, write_text
from smoe_ds.cli.formats import add_format, print_page
from smoe_ds.cli.messages import note, warn
from smoe_ds.cli.values import positive
from smoe_ds.errors import ConfigError
from smoe_ds.run_names import REPORT

if TYPE_CHECKING:
    from smoe_ds.scaling.constants import Constants
    from smoe_ds.study.row import Row
    from smoe_ds.study.spec import Study

HELP = "train several systems with several seeds, all alike, and compare them in tables and on a page"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.epilog = (
        "If it is interrupted or killed, the same command goes on where it was. Each run that has ended, also one that "
        "failed, is a row in OUTPUT/results.jsonl. Tables and page are made of these rows alone. A run counts as "
        "trained as long as its settings, its ranks and the text of its corpus stay the same."
    )
    parser.add_argument("study", type=Path, metavar="STUDY.yaml", help="a study, e.g. ds_configs/studies/small.yaml")
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one key of all runs, for example smoe.data.path=data/mine; may be repeated",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder for runs and results (default: the study's)")
    parser.add_argument(
        "--jobs",
        type=positive,
        default=1,
        metavar="N",
        help="runs at once, each with its own GPUs if there are any (default: 1)",
    )
    parser.add_argument(
        "--ranks", type=positive, metavar="N", help="ranks of each run, all on this host (default: the study's)"
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--dry-run", action="store_true", help="list the runs, their state and the hours they take; train nothing"
    )
    instead.add_argument("--report", action="store_true", help="report what has ended so far; train nothing")
    instead.add_argument(
        "--collect",
        action="store_true",
        help="make the rows of runs that have ended again from their folders, for example because you have analysed "
        "them or a newer version writes more into a row; then report them, train nothing",
    )
    parser.add_argument(
        "--constants",
        type=Path,
        metavar="FILE",
        help="for --dry-run: predict hours with what smoe-ds calibrate measured (default: OUTPUT/constants.json if it "
        "is there)",
    )
    parser.add_argument(
        "--html", type=Path, metavar="FILE.html", help=f"file for the page (default: {REPORT} in OUTPUT)"
    )
    add_format(parser, "the tables")


def run(args: argparse.Namespace) -> int:
    """Trains what is left, and reports; 75 if it was interrupted, 1 if a run failed."""
    from smoe_ds.config.overrides import parse_override
    from smoe_ds.study.spec import load_study

    if args.constants and not args.dry_run:
        raise ConfigError("--constants: only works together with --dry-run; add it, or leave --constants out")
    settings = {".".join(key): value for key, value in map(parse_override, args.settings)}
    study = load_study(args.study, settings, args.output, args.ranks)
    if args.dry_run:
        _list(study, args)
        return 0
    page = _page(args.html or study.output / REPORT)
    if args.collect:
        _collect(study)
    elif not args.report and not _train(study, args.jobs):
        note("study", "interrupted; the same command goes on")
        return 75
    rows = _rows(study)
    if not rows and args.report:
        raise ConfigError(f"{study.results}: has no row of this study yet; run it without --report first")
    if not rows:
        note("study", "no run has ended yet" + ("" if args.collect else "; others are at them"))
        return 0
    _report(study, rows, page, args.format)
    return 1 if any(row.status != "done" for row in rows) else 0


def _page(output: Path) -> Path:
    """The file for the page, which may hold an earlier one but nothing else."""
    from smoe_ds.report.study.page import GENERATOR

    check_page(output, GENERATOR, "a report of a study", output / REPORT)
    return output


def _train(study: Study, jobs: int) -> bool:
    """Trains what is left; False if it was interrupted."""
    from smoe_ds.study.runner import Runner

    runner = Runner(study, jobs, lambda text: note("study", text))
    note("study", f"{len(study.runs)} runs, {len(runner.waiting)} of them still to be trained")
    return runner.run()


def _collect(study: Study) -> None:
    """Rows again, of runs that ended well and whose folders are still there."""
    from smoe_ds.study.collect import collect
    from smoe_ds.study.row import append_row

    rows = {row.key: row for row in _rows(study)}
    again = [run for run in study.runs if run.key in rows and rows[run.key].status == "done" and run.folder.is_dir()]
    for run in again:
        before = rows[run.key]
        append_row(study.results, collect(run, before.started, "", before.peak_memory))
    note("study", f"made {len(again)} of {len(rows)} rows again")


def _rows(study: Study) -> list[Row]:
    """The rows of the study's own runs, as their settings are now."""
    from smoe_ds.study.row import read_rows

    wanted = {run.key for run in study.runs}
    return [row for row in read_rows(study.results) if row.key in wanted]


def _report(study: Study, rows: list[Row], page: Path, form: str) -> None:
    """Prints the tables of the study's rows, and writes the page."""
    from smoe_ds.report.study.contents import study_contents
    from smoe_ds.report.study.page import study_html
    from smoe_ds.report.study.text import study_page

    contents = study_contents(study.file.stem, rows, study.spec.against, study.spec.groups, len(study.runs))
    write_text(page, study_html(contents))
    print_page(study_page(contents), form, json.dumps(contents.as_json(), indent=1))
    note("study", f"wrote {page}; open it in a browser")


def _list(study: Study, args: argparse.Namespace) -> None:
    """The runs with their state, and how long they take."""
    from smoe_ds.report.study.runs import runs_table
    from smoe_ds.study.hours import hours_of, warnings_of
    from smoe_ds.study.row import read_rows

    constants = _constants(study, args.constants)
    rows, every = {row.key: row for row in _rows(study)}, read_rows(study.results)
    hours = [hours_of(run, list(rows.values()), every, constants) for run in study.runs]
    states = [rows[run.key].status if run.key in rows else "to be trained" for run in study.runs]
    print(runs_table(study, states, hours, args.jobs).text())
    for text in warnings_of(study.runs, constants) if constants else ():
        warn(text)


def _constants(study: Study, file: Path | None) -> Constants | None:
    """The calibration that was named, else the one that lies with the results; None without either."""
    from smoe_ds.scaling.constants import choose_constants

    if file is None and not study.constants.is_file():
        return None
    precision = study.runs[0].config.precision
    return choose_constants(precision, file=file or study.constants, device=None, interconnect=None, ports=1)
