"""``smoe-ds upcycle DENSE --set smoe.moe.strata=[4,4] --output OUT``: a mixture of experts out of a dense model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from smoe_ds.cli.arguments import add_checkpoint, add_overrides

HELP = "start a mixture of experts from a dense model: every expert a copy of its feed-forward network"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "run_dir", type=Path, metavar="DENSE", help="run folder, checkpoint or exported model without experts"
    )
    add_overrides(
        parser, "how the new model differs, at least smoe.moe.strata=[4,4]; smoe.train.seed decides its gates"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="new run folder, as of average")
    add_checkpoint(parser)
    parser.add_argument(
        "--noise",
        type=noise,
        default=0.0,
        metavar="S",
        help="noise on the experts, in standard deviations of each weight (default 0: equal copies)",
    )


def noise(text: str) -> float:
    """A number of 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected a number, 0 or more")
    return value


def run(args: argparse.Namespace) -> int:
    """Copies, and writes a run folder of weights."""
    from smoe_ds.config import load_run
    from smoe_ds.decode.load import open_trained
    from smoe_ds.errors import ConfigError
    from smoe_ds.model.transformer import Transformer
    from smoe_ds.weights.upcycle import upcycle
    from smoe_ds.weights.weights_folder import check_free, write_weights_run

    check_free(args.output)
    dense = open_trained(args.run_dir, device="cpu")
    if not dense.config.smoe.moe.is_dense:
        raise ConfigError(
            f"{args.run_dir}: has experts already (strata {dense.config.smoe.moe.strata}); name a dense run"
        )
    config = load_run(dense.files.config, args.overrides)
    smoe = config.smoe
    if smoe.moe.is_dense:
        raise ConfigError("smoe.moe.strata: is still []; say which experts to make, e.g. --set smoe.moe.strata=[4,4]")
    checkpoint = dense.checkpoint(args.checkpoint)
    model = Transformer(smoe.model, smoe.moe, dense.tokenizer.vocab_size, seed=smoe.train.seed)
    found = {name: weight.float() for name, weight in dense.weights(checkpoint).items()}
    weights = upcycle(found, model, noise=args.noise, seed=smoe.train.seed, source=checkpoint)
    write_weights_run(
        args.output,
        config.to_dict(),
        dense.tokenizer.model_file,
        dense.step(checkpoint),
        {name: tuple(weight.shape) for name, weight in weights.items()},
        lambda name: weights[name],
        {"made_by": "smoe-ds upcycle", "source": dense.source(checkpoint), "noise": args.noise},
    )
    numbers = [sum(weight.numel() for weight in of.values()) for of in (found, weights)]
    print(
        f"smoe-ds upcycle: strata {smoe.moe.strata}, {numbers[1]:,} parameters out of {numbers[0]:,}, are in "
        f"{args.output}; train them with smoe.train.init_from",
        file=sys.stderr,
    )
    return 0
