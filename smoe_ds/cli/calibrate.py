"""``smoe-ds calibrate RUN.json``: measures, on the present devices, the constants that a plan at scale rests on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.cli.arguments import add_local_rank, add_run_arguments
from smoe_ds.cli.files import check_replaceable, write_text
from smoe_ds.cli.messages import note
from smoe_ds.errors import ConfigError

if TYPE_CHECKING:
    from smoe_ds.scaling.constants import Constants

HELP = "measure how fast this machine is, so that smoe-ds plan can predict step times from it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.epilog = (
        "Start it under the same launcher as the training, with several ranks if you want the links between them "
        "measured. Then run: smoe-ds plan RUN.json --nodes N --constants FILE."
    )
    add_run_arguments(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON file to write the results to")
    parser.add_argument(
        "--vocab-size",
        type=int,
        metavar="V",
        help="vocabulary size (default: that of the prepared corpus, else smoe.data.vocab_size, else 32000)",
    )
    parser.add_argument(
        "--repeats", type=int, default=5, metavar="N", help="how often to repeat each measurement (default: 5)"
    )
    add_local_rank(parser)


def run(args: argparse.Namespace) -> int:
    """Measures on all ranks at once; rank 0 writes the file and prints the constants."""
    from smoe_ds.config import check_device, load_run
    from smoe_ds.parallel.launchers import discover
    from smoe_ds.parallel.threads import choose_threads

    _check(args)
    config = load_run(args.run_file, args.overrides)
    env = discover()
    choose_threads(env.local_world_size)  # before PyTorch is imported

    from smoe_ds.parallel.device import device_of
    from smoe_ds.parallel.process_group import init_distributed, shutdown
    from smoe_ds.planning.vocabulary import planned_vocab_size
    from smoe_ds.scaling.measure import measure_constants, place_of

    place = place_of(env, device_of(env))
    check_device(config, place.device.type)
    env = init_distributed(env, place.device)

    def say(what: str) -> None:
        if env.rank == 0:
            note("calibrate", f"measuring {what}, {env.world_size} rank{'s' if env.world_size > 1 else ''}")

    vocab_size = args.vocab_size or planned_vocab_size(config)[0]
    constants = measure_constants(config, vocab_size, place, repeats=args.repeats, say=say)
    shutdown()  # not after an error of one rank: it would wait for the others, and they for this one
    if env.rank == 0:
        _write(args.output, constants)
    return 0


def _check(args: argparse.Namespace) -> None:
    for name in ("repeats", "vocab_size"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} {value}: expected 1 or more")
    if not args.output.parent.is_dir():
        raise ConfigError(f"--output {args.output}: cannot be written: no such folder; choose another, or create it")
    check_replaceable(args.output, ("format", "lines"), "the results of a calibration")


def _write(file: Path, constants: Constants) -> None:
    from smoe_ds.report.scaling import constants_lines, worst_fit_text

    write_text(file, json.dumps(constants.as_json(), indent=1) + "\n")
    print("\n".join(constants_lines(constants)))
    note("calibrate", f"wrote {file}; {worst_fit_text(constants)}")
