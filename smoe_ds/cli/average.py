"""``smoe-ds average RUN --last 5 --output OUT``: the mean of checkpoints' weights, as a run folder of its own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.cli.arguments import add_output_run
from smoe_ds.cli.messages import note
from smoe_ds.cli.values import positive, steps

if TYPE_CHECKING:
    from smoe_ds.decode.load import TrainedRun
    from smoe_ds.weights.average import Candidate

HELP = "average the weights of several checkpoints"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="one run folder, with --last, --best or --steps; or several checkpoints RUN/checkpoints/step_N",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--last", type=positive, metavar="N", help="average the N newest checkpoints")
    which.add_argument(
        "--best", type=positive, metavar="N", help="average the N checkpoints with the lowest validation loss"
    )
    which.add_argument(
        "--steps", type=steps, metavar="A,B,...", help="average the checkpoints of these steps, for example 1000,2000"
    )
    add_output_run(parser)


def run(args: argparse.Namespace) -> int:
    """Averages and writes."""
    from smoe_ds.parallel.threads import choose_threads

    choose_threads(1)  # before PyTorch is imported
    from smoe_ds.checkpoints.format import step_of
    from smoe_ds.convert.average_runs import average_runs
    from smoe_ds.decode.load import TrainedRun
    from smoe_ds.report.checkpoints import averaged_text
    from smoe_ds.weights.weights_folder import check_free

    check_free(args.output)
    runs = [TrainedRun(path, device="cpu") for path in args.runs]
    chosen = _chosen(runs, args)
    folder = average_runs(runs, chosen, args.output)
    print(averaged_text(chosen))
    note("average", f"wrote the mean of {len(chosen)} checkpoints to {args.output}, as step {step_of(folder)}")
    return 0


def _chosen(runs: Sequence[TrainedRun], args: argparse.Namespace) -> list[Candidate]:
    from smoe_ds.errors import CheckpointError
    from smoe_ds.weights.average import Candidate, best, candidates, newest, of_steps, validation_nll

    if args.last is None and args.best is None and args.steps is None:
        folders = [run.checkpoint() for run in runs]
        if len(folders) < 2:
            raise CheckpointError(
                f"{args.runs[0]}: nothing to average: choose checkpoints of the run with --last N, --best N or "
                "--steps A,B, or name several"
            )
        return [Candidate(folder, validation_nll(folder)) for folder in folders]
    if len(runs) > 1 or runs[0].given != runs[0].folder:
        raise CheckpointError(
            "--last, --best and --steps choose among the checkpoints of one run; name its folder alone"
        )
    found = candidates(runs[0].files.checkpoints)
    if args.last is not None:
        return newest(found, args.last)
    return best(found, args.best) if args.best is not None else of_steps(found, args.steps)
