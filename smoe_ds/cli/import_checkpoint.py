"""``smoe-ds import CHECKPOINT RUN.json --trust --output OUT``: a checkpoint of DeepSpeed's own as a run folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.cli.arguments import add_output_run, add_run_arguments
from smoe_ds.cli.messages import note

if TYPE_CHECKING:
    from smoe_ds.config.run import RunConfig
    from smoe_ds.data.tokenizer import Tokenizer
    from smoe_ds.weights.deepspeed_files import DeepSpeedWeights

HELP = "import the weights of a checkpoint that DeepSpeed itself saved"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.epilog = "Only the weights are imported: not Adam's state, the position in the data, or the loss scale."
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="folder that was given to engine.save_checkpoint"
    )
    add_run_arguments(parser)
    add_output_run(parser)
    parser.add_argument(
        "--trust",
        action="store_true",
        help="say that you trust the files: they are pickled, and reading a pickle can run any program hidden in it",
    )
    parser.add_argument(
        "--tag", help="which checkpoint in the folder (default: the one that the folder's file latest names)"
    )
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FILE",
        help="SentencePiece model the weights were trained with (default: that of the corpus in smoe.data.path)",
    )


def run(args: argparse.Namespace) -> int:
    """Reads, checks against the run's model, writes."""
    from smoe_ds.checkpoints.weights_reader import misfit
    from smoe_ds.config import load_run
    from smoe_ds.decode.shape import model_shape
    from smoe_ds.errors import CheckpointError
    from smoe_ds.weights.deepspeed_files import find_checkpoint, read_deepspeed_checkpoint
    from smoe_ds.weights.weights_folder import check_free, write_weights_run

    check_free(args.output)
    config = load_run(args.run_file, args.overrides)
    folder = find_checkpoint(args.checkpoint, args.tag)
    tokenizer = _tokenizer(args.tokenizer, config)
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
    _say(args.output, folder, found)
    return 0


def _tokenizer(file: Path | None, config: RunConfig) -> Tokenizer:
    from smoe_ds.data.corpus import Corpus
    from smoe_ds.data.tokenizer import Tokenizer

    return Tokenizer(file) if file else Corpus(Path(config.smoe.data.path), verify=False).tokenizer


def _say(output: Path, folder: Path, found: DeepSpeedWeights) -> None:
    rounded = "" if found.precision == "float32" else f", rounded to {found.precision} by the engine that saved them"
    note(
        "import",
        f"wrote the weights of {folder}, step {found.step}{rounded}, to {output}; Adam's state, the position in the "
        "data and the loss scale are not imported",
    )
