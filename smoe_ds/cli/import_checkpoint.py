"""``smoe-ds import CHECKPOINT RUN.json --trust --output OUT``: a checkpoint of DeepSpeed's own as a run folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from smoe_ds.cli.arguments import add_run_arguments

HELP = "take over the weights of a checkpoint that DeepSpeed saved"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="folder that engine.save_checkpoint was given"
    )
    add_run_arguments(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="new run folder, as of average")
    parser.add_argument(
        "--trust",
        action="store_true",
        help="the files are pickled, and reading a pickle can run any program put into it: say that you trust them",
    )
    parser.add_argument("--tag", help="which checkpoint in the folder; default: the one in the file latest")
    parser.add_argument(
        "--tokenizer", type=Path, metavar="FILE", help="default: the vocabulary of the corpus in smoe.data.path"
    )


def run(args: argparse.Namespace) -> int:
    """Reads, checks against the run's model, writes."""
    from smoe_ds.checkpoints.weights_reader import misfit
    from smoe_ds.config import load_run
    from smoe_ds.data.corpus import Corpus
    from smoe_ds.data.tokenizer import Tokenizer
    from smoe_ds.decode.shape import model_shape
    from smoe_ds.errors import CheckpointError
    from smoe_ds.weights.deepspeed_files import find_checkpoint, read_deepspeed_checkpoint
    from smoe_ds.weights.weights_folder import check_free, write_weights_run

    check_free(args.output)
    config = load_run(args.run_file, args.overrides)
    folder = find_checkpoint(args.checkpoint, args.tag)
    tokenizer = (
        Tokenizer(args.tokenizer) if args.tokenizer else Corpus(Path(config.smoe.data.path), verify=False).tokenizer
    )
    shape = model_shape(config.smoe, tokenizer.vocab_size)
    found = read_deepspeed_checkpoint(folder, trust=args.trust)
    if problem := misfit(shape.shapes, {name: tuple(weight.shape) for name, weight in found.weights.items()}):
        raise CheckpointError(f"{folder}: does not fit the model of {args.run_file}: {problem}")
    origin = {
        "made_by": "smoe-ds import",
        "source": str(folder.resolve()),
        "written_by": f"deepspeed {found.written_by}",
        "precision": found.precision,
    }
    write_weights_run(
        args.output,
        config.to_dict(),
        tokenizer.model_file,
        found.step,
        shape.shapes,
        lambda name: found.weights[name].contiguous(),
        origin,
    )
    note = "" if found.precision == "float32" else f", rounded to {found.precision} by the engine that saved them"
    print(
        f"smoe-ds import: the weights of {folder}, step {found.step}{note}, are in {args.output}; Adam's state, data "
        "position and loss scale are not taken over",
        file=sys.stderr,
    )
    return 0
