"""``smoe-ds validate RUN.json``: the resolved configuration, or every error at once."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.cli.arguments import add_run_arguments
from smoe_ds.errors import ConfigError

if TYPE_CHECKING:
    from smoe_ds.config import RunConfig

HELP = "check a run file, and print the run with all defaults filled in, or everything that is wrong with it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_run_arguments(parser, optional=True)
    parser.add_argument(
        "--keys", action="store_true", help="list every key that a run file can have, with its default and meaning"
    )
    parser.add_argument(
        "--world-size", type=int, metavar="N", help="also check that N ranks can share the batch and the experts"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the resolved run on stdout, notes on stderr."""
    from smoe_ds.config import check_world, load_run

    if args.keys:
        return _print_keys()
    if args.run_file is None:
        raise ConfigError("smoe-ds validate: which run? Name a file such as ds_configs/quickstart.json, or give --keys")
    config = load_run(args.run_file, args.overrides)
    if config.smoe.train.freeze:
        from smoe_ds.model.freezing import check_freeze

        check_freeze(config)
    note = f"{args.run_file}: valid"
    if args.world_size is not None:
        if args.world_size < 1:
            raise ConfigError(f"--world-size {args.world_size}: expected 1 or more ranks")
        check_world(config, args.world_size)
        steps = config.train_batch_size // args.world_size
        note += f" on {args.world_size} ranks, with gradient_accumulation_steps {steps}"
    print(json.dumps(config.to_dict(), indent=2, ensure_ascii=False))
    print(note, *_corpus_notes(config), sep="\n", file=sys.stderr)
    return 0


def _corpus_notes(config: RunConfig) -> list[str]:
    """Says that the corpus is not there; the run file is valid all the same, and may be checked on another host."""
    from smoe_ds.data.manifest import MANIFEST

    folder = config.smoe.data.path
    if (Path(folder) / MANIFEST).exists():
        return []
    remedy = "make it with `python -m data_prep SPEC.yaml --output DIR`, or correct smoe.data.path"
    return [f"smoe.data.path: there is no corpus in {folder} yet; {remedy}"]


def _print_keys() -> int:
    from smoe_ds.config.describe import describe_keys

    for key in describe_keys():
        print(f"{key.key}  [{key.default}]\n    {key.text}")
    return 0
