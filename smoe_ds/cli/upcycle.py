"""``smoe-ds upcycle DENSE --set smoe.moe.strata=[4,4] --output OUT``: a mixture of experts out of a dense model."""

from __future__ import annotations

import argparse
from pathlib import Path

from smoe_ds.cli.arguments import add_checkpoint, add_output_run, add_overrides
from smoe_ds.cli.messages import note
from smoe_ds.cli.values import not_negative

HELP = "make a mixture of experts from a dense model; every expert starts as a copy of its feed-forward layer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "run_dir", type=Path, metavar="DENSE", help="run folder, checkpoint or exported model without experts"
    )
    add_overrides(
        parser,
        "what to change in the new model; at least its experts, for example smoe.moe.strata=[4,4]; "
        "smoe.train.seed decides how its gates start; may be repeated",
    )
    add_output_run(parser)
    add_checkpoint(parser)
    parser.add_argument(
        "--noise",
        type=not_negative,
        default=0.0,
        metavar="S",
        help="noise to add to the experts, in standard deviations of each weight (default: 0, exact copies)",
    )


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
    before, after = (sum(weight.numel() for weight in of.values()) for of in (found, weights))
    note(
        "upcycle",
        f"wrote a model with strata {smoe.moe.strata} and {after:,} parameters (the dense one has {before:,}) to "
        f"{args.output}; to train it, set smoe.train.init_from={args.output}",
    )
    return 0
