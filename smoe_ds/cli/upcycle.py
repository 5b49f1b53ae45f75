"""``smoe-ds upcycle DENSE --set smoe.moe.strata=[4,4] --output OUT``: a mixture of experts out of a dense model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.cli.arguments import add_checkpoint, add_output_run, add_overrides
from smoe_ds.cli.messages import note
from smoe_ds.cli.values import not_negative

if TYPE_CHECKING:
    from smoe_ds.config.run import RunConfig

HELP = "make a mixture of experts from a dense model, its experts copies or parts of the feed-forward layers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "run_dir", type=Path, metavar="DENSE", help="run folder, checkpoint or exported model without experts"
    )
    add_overrides(
        parser,
        "what to change in the new model; at least its experts, for example smoe.moe.strata=[4,4]; "
        "smoe.train.seed decides how its gates start, or how layers are cut; may be repeated",
    )
    add_output_run(parser)
    add_checkpoint(parser)
    parser.add_argument(
        "--method",
        choices=("preserve", "copy", "adapters", "moefy"),
        default="preserve",
        help="preserve: the new model translates as the dense one does, with any strata: experts of the last stratum "
        "are copies of the feed-forward layer, and those of earlier ones add nothing at first; copy: every expert is a "
        "copy, so that a token passes the layer in each of its strata; adapters: all share it, and each has an adapter "
        "that starts by adding nothing; moefy: the layer is cut in experts that add up to it, of which a token "
        "computes smoe.moe.top_k (MoEfication; needs ReLU and one stratum) (default: preserve)",
    )
    parser.add_argument(
        "--noise",
        type=not_negative,
        default=0.0,
        metavar="S",
        help="noise to add to the experts, in standard deviations of each weight (default: 0, exact copies)",
    )


def run(args: argparse.Namespace) -> int:
    """Copies, and writes a run folder of weights."""
    from smoe_ds.parallel.threads import choose_threads

    choose_threads(1)  # before PyTorch is imported
    from smoe_ds.decode.load import open_trained
    from smoe_ds.errors import ConfigError
    from smoe_ds.model.transformer import Transformer
    from smoe_ds.report.new_models import upcycled_text
    from smoe_ds.weights.moefication import moefy
    from smoe_ds.weights.preserve import preserve_function
    from smoe_ds.weights.upcycle import upcycle
    from smoe_ds.weights.weights_folder import check_free, write_weights_run

    check_free(args.output)
    dense = open_trained(args.run_dir, device="cpu")
    if not dense.config.smoe.moe.is_dense:
        raise ConfigError(
            f"{args.run_dir}: has experts already (strata {dense.config.smoe.moe.strata}); name a dense run"
        )
    config = _settings(dense.files.config, args)
    smoe = config.smoe
    checkpoint = dense.checkpoint(args.checkpoint)
    model = Transformer(smoe.model, smoe.moe, dense.tokenizer.vocab_size, seed=smoe.train.seed)
    found = {name: weight.float() for name, weight in dense.weights(checkpoint).items()}
    if args.method == "moefy":
        weights = moefy(found, model, seed=smoe.train.seed, source=checkpoint)
    else:
        weights = upcycle(found, model, noise=args.noise, seed=smoe.train.seed, source=checkpoint)
    if args.method == "preserve":
        preserve_function(weights, model)
    write_weights_run(
        args.output,
        config.to_dict(),
        dense.tokenizer.model_file,
        dense.step(checkpoint),
        {name: tuple(weight.shape) for name, weight in weights.items()},
        lambda name: weights[name],
        {"made_by": "smoe-ds upcycle", "source": dense.source(checkpoint), "method": args.method, "noise": args.noise},
    )
    before, after = (sum(weight.numel() for weight in of.values()) for of in (found, weights))
    note("upcycle", upcycled_text(smoe.moe.strata, after, before, args.output))
    return 0


def _settings(file: Path, args: argparse.Namespace) -> RunConfig:
    """The settings of the new model."""
    from smoe_ds.config import load_run
    from smoe_ds.errors import ConfigError
    from smoe_ds.weights.moefication import SETTINGS, check_moefication, width_setting
    from smoe_ds.weights.preserve import preserve_problem
    from smoe_ds.weights.upcycle import kind_problem

    defaults = {"adapters": ("smoe.moe.experts.kind=adapters",), "moefy": SETTINGS}.get(args.method, ())
    config = load_run(file, [*defaults, *args.overrides])
    if config.smoe.moe.is_dense:
        raise ConfigError("smoe.moe.strata: is still []; say which experts to make, e.g. --set smoe.moe.strata=[4,4]")
    if args.method == "moefy":
        config = load_run(file, [*defaults, width_setting(config.smoe), *args.overrides])
        check_moefication(config.smoe)
        if args.noise:
            raise ConfigError("--noise: parts with noise do not add up to the layer they were cut from; leave it out")
        return config
    blocks = config.smoe.moe.blocks(config.smoe.model)
    problem = kind_problem(blocks, args.method)
    if problem is None and args.method == "preserve":
        problem = preserve_problem(blocks)
    if problem is not None:
        raise ConfigError(problem)
    if args.noise and args.method == "adapters":
        raise ConfigError("--noise: adapters start apart already; leave it out")
    return config
