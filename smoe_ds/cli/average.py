"""``smoe-ds average RUN --last 5 --output OUT``: the mean of checkpoints' weights, as a run folder of its own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.cli.arguments import positive

if TYPE_CHECKING:
    from smoe_ds.decode.load import TrainedRun
    from smoe_ds.weights.average import Candidate

HELP = "average the weights of checkpoints"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="one run folder with --last, --best or --steps; or several checkpoints RUN/checkpoints/step_N",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--last", type=positive, metavar="N", help="the newest N checkpoints that are kept")
    which.add_argument("--best", type=positive, metavar="N", help="the N of lowest validation loss")
    which.add_argument("--steps", type=steps, metavar="A,B,...", help="the checkpoints of these steps")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="new run folder with one checkpoint of weights alone; translate, evaluate, export and "
        "smoe.train.init_from take it",
    )


def steps(text: str) -> list[int]:
    """Steps separated by commas."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text}: expected steps such as 1000,2000")
    return [int(part) for part in parts]


def run(args: argparse.Namespace) -> int:
    """Averages and writes."""
    from smoe_ds.checkpoints.format import step_of
    from smoe_ds.checkpoints.weights_reader import misfit
    from smoe_ds.decode.load import TrainedRun
    from smoe_ds.decode.shape import model_shape
    from smoe_ds.errors import CheckpointError
    from smoe_ds.weights.average import Mean
    from smoe_ds.weights.weights_folder import check_free, write_weights_run

    check_free(args.output)
    runs = [TrainedRun(path, device="cpu") for path in args.runs]
    chosen = _chosen(runs, args)
    _check_same_model(runs)
    first = runs[0]
    shape = model_shape(first.config.smoe, first.tokenizer.vocab_size)
    mean = Mean([candidate.folder for candidate in chosen], shape.buffers)
    if problem := misfit(shape.shapes, mean.shapes):
        raise CheckpointError(f"{chosen[0].folder}: does not fit the model of {first.files.config}: {problem}")
    sources = [{"checkpoint": str(one.folder.resolve()), "step": one.step, "validation_nll": one.nll} for one in chosen]
    folder = write_weights_run(
        args.output,
        first.config.to_dict(),
        first.tokenizer.model_file,
        max(candidate.step for candidate in chosen),
        mean.shapes,
        mean.tensor,
        {"made_by": "smoe-ds average", "sources": sources},
    )
    for candidate in chosen:
        nll = "" if candidate.nll is None else f", validation loss {candidate.nll:.4f} nat"
        print(f"{candidate.folder}{nll}")
    print(f"smoe-ds average: the mean of {len(chosen)}, step {step_of(folder)}, is in {args.output}", file=sys.stderr)
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


def _check_same_model(runs: Sequence[TrainedRun]) -> None:
    from smoe_ds.errors import CheckpointError
    from smoe_ds.weights.same_model import differences

    first = runs[0]
    for other in runs[1:]:
        problems = differences(first.config.smoe, other.config.smoe)
        if first.tokenizer.sha256 != other.tokenizer.sha256:
            problems.append("their vocabularies (tokenizer.model) differ")
        if problems:
            raise CheckpointError(
                f"{first.given} and {other.given}: are different models: {'; '.join(problems)}; "
                "average checkpoints of one model"
            )
