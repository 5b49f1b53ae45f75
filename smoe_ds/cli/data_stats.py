"""``smoe-ds data stats DIR``: what a run will see of a corpus, with the settings of a run file or of options."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING

from smoe_ds.cli.arguments import add_overrides
from smoe_ds.cli.values import positive
from smoe_ds.errors import ConfigError

if TYPE_CHECKING:
    from smoe_ds.data.corpus_stats import StatsSettings

HELP = "show the size of every direction, its share of the batches, and how often a run repeats it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments beside the folder."""
    parser.add_argument(
        "--run", metavar="RUN.json", help="take the settings below from this run file; options given here win"
    )
    add_overrides(parser, "change one key of RUN.json, for example smoe.data.temperature=5; may be repeated")
    parser.add_argument("--temperature", type=float, metavar="T", help="sampling temperature, 1 or more (default: 1)")
    parser.add_argument(
        "--max-tokens", type=positive, metavar="N", help="most tokens of a micro-batch, both sides (default: 8192)"
    )
    parser.add_argument(
        "--micro-batches", type=positive, metavar="K", help="micro-batches of a step, over all ranks (default: 1)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Prints the statistics."""
    from smoe_ds.data.corpus import Corpus
    from smoe_ds.data.corpus_stats import corpus_stats
    from smoe_ds.report.corpus import stats_page

    settings = _settings(args)
    stats = corpus_stats(Corpus(args.folder, verify=False), settings)
    print(json.dumps(stats.as_json(), indent=1) if args.json else stats_page(stats).text())
    return 0


def _settings(args: argparse.Namespace) -> StatsSettings:
    """Those of the run file; options come before it."""
    from smoe_ds.config import load_run
    from smoe_ds.config.data import DataConfig
    from smoe_ds.config.model import ModelConfig
    from smoe_ds.data.corpus_stats import StatsSettings

    if args.temperature is not None and not 1 <= args.temperature < math.inf:
        raise ConfigError(f"--temperature {args.temperature}: expected 1 or more, and not inf")
    if args.overrides and args.run is None:
        raise ConfigError("--set: changes keys of a run file; name it with --run RUN.json")
    if args.run is None:
        data, seed, max_positions, micro_batches = DataConfig(path=str(args.folder)), 1, ModelConfig().max_positions, 1
    else:
        run = load_run(args.run, args.overrides)
        data, seed = run.smoe.data, run.smoe.train.seed
        max_positions, micro_batches = run.smoe.model.max_positions, run.train_batch_size
    options = {"temperature": args.temperature, "max_tokens": args.max_tokens}
    given = {name: value for name, value in options.items() if value is not None}
    data = DataConfig.model_validate(data.model_dump(exclude_unset=True) | given)
    return StatsSettings(data, seed, max_positions, args.micro_batches or micro_batches)
