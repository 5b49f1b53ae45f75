"""``smoe-ds report RUN [RUN ...]``: everything that is known of some runs, side by side, as one HTML file."""

from __future__ import annotations

import argparse
from pathlib import Path

from smoe_ds.cli.arguments import add_checkpoint, add_device
from smoe_ds.cli.files import check_page, write_text
from smoe_ds.cli.messages import note
from smoe_ds.cli.values import natural
from smoe_ds.run_names import REPORT

HELP = "show runs side by side on one page: curves, scores, requested capacity, experts, single tokens"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.epilog = (
        "The page is one file that needs no network. It shows what evaluate and analyze have left in the run folders "
        "of the same weights; where these have no analysis, a bounded number of sentences is analysed now."
    )
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="run folders, checkpoints in them (RUN/checkpoints/step_N), or exported models",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE.html", help=f"file for the page (default: {REPORT} in the first RUN)"
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--recipe",
        type=Path,
        metavar="RUN.json",
        help="run file to compare the configurations with (default: compare them with the defaults of all keys)",
    )
    parser.add_argument(
        "--sentence",
        nargs=2,
        action="append",
        default=[],
        metavar=("SRC-TGT", "TEXT"),
        help="a sentence for the token view, for example eng-nso 'Good morning'; may be repeated (default: sentences "
        "of the evaluation, else of the validation text)",
    )
    parser.add_argument(
        "--examples", type=natural, default=4, metavar="N", help="sentences for the token view (default: 4; 0: none)"
    )
    parser.add_argument(
        "--analyze",
        type=natural,
        default=400,
        metavar="N",
        help="sentences to analyse, all directions together, where a run has no analysis (default: 400; 0: none)",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="prepared corpus (default: smoe.data.path of each run)"
    )
    add_device(parser, "where to compute")


def run(args: argparse.Namespace) -> int:
    """Gathers what is known of the runs, and writes the page."""
    from smoe_ds.parallel.threads import choose_threads

    choose_threads(1)  # before PyTorch is imported
    from smoe_ds.cli.open_model import check_device
    from smoe_ds.config.load import load_run
    from smoe_ds.decode.load import open_trained
    from smoe_ds.report.run_report.gather import Wanted, gather
    from smoe_ds.report.run_report.names import run_names
    from smoe_ds.report.run_report.page import GENERATOR, report_page

    check_device(args.device)
    own = [_sentence(*one) for one in args.sentence]
    names = run_names(args.runs)
    models = [open_trained(path, device=args.device) for path in args.runs]
    recipe = (args.recipe.name, load_run(args.recipe)) if args.recipe else None
    output = args.output or models[0].files.report
    check_page(output, GENERATOR, "a report", output / REPORT)
    wanted = Wanted(args.checkpoint, args.data, args.analyze, args.examples, own)

    def tell(text: str) -> None:
        note("report", text)

    contents = [gather(model, name, wanted, tell) for model, name in zip(models, names, strict=True)]
    write_text(output, report_page(contents, recipe))
    note("report", "wrote the report; open it in a browser")
    print(output.resolve(), flush=True)
    return 0


def _sentence(direction: str, text: str) -> tuple[str, str]:
    from smoe_ds.errors import DataError

    languages = direction.split("-")
    if len(languages) != 2 or not all(languages):
        raise DataError(f"--sentence {direction}: is no direction; write source and target, for example eng-nso")
    if not text.strip():
        raise DataError(f"--sentence {direction}: the sentence is empty; write one behind the direction")
    return direction, text
