"""``smoe-ds calibrate RUN.json``: measures, on the present devices, the constants that a plan at scale rests on."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.cli.arguments import add_run_arguments
from smoe_ds.cli.plan import planned_vocab_size
from smoe_ds.errors import ConfigError, LaunchError

if TYPE_CHECKING:
    import torch

    from smoe_ds.config.run import RunConfig
    from smoe_ds.parallel.env import Env
    from smoe_ds.scaling.calibrate_data import DataFigures
    from smoe_ds.scaling.collectives import Topology
    from smoe_ds.scaling.constants import Constants

HELP = "measure the constants of this device and its links, for smoe-ds plan --constants"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_run_arguments(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON file for the constants")
    parser.add_argument("--vocab-size", type=int, metavar="V", help="default: as smoe-ds plan finds it")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="readings of each (default: 5)")
    # The deepspeed launcher adds --local_rank to every process; the environment says the same.
    parser.add_argument("--local_rank", type=int, default=None, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Measures on all ranks at once; rank 0 writes the file and prints the constants."""
    from smoe_ds.config import check_device, load_run
    from smoe_ds.parallel.device import device_of
    from smoe_ds.parallel.discover import discover
    from smoe_ds.parallel.process_group import init_distributed, shutdown

    for name in ("repeats", "vocab_size"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} {value}: expected 1 or more")
    if not args.output.parent.is_dir():
        raise ConfigError(f"--output {args.output}: cannot be written: no such folder; choose another, or make it")
    config = load_run(args.run_file, args.overrides)
    env = discover()
    if env.world_size % env.local_world_size:
        raise LaunchError(
            f"{env.world_size} ranks, {env.local_world_size} of them here: hosts with unlike numbers of ranks have no "
            "constants in common; start as many on each"
        )
    device = device_of(env)
    check_device(config, device.type)
    env = init_distributed(env, device)
    constants = _measure(config, args, env, device)
    shutdown()  # not after an error of one rank: it would wait for the others, and they for this one
    if env.rank == 0:
        _write(args.output, constants)
    return 0


def _measure(config: RunConfig, args: argparse.Namespace, env: Env, device: torch.device) -> Constants:
    import torch

    from smoe_ds.planning.plan import make_plan
    from smoe_ds.scaling.calibrate import SENTENCE, Calibration
    from smoe_ds.scaling.collectives import Topology
    from smoe_ds.scaling.constants import Constants

    vocab_size = args.vocab_size or planned_vocab_size(config)[0]
    _say(env, "data")
    data = _data_figures(config)
    parameters = make_plan(config, vocab_size=vocab_size).parameters_per_device // env.world_size
    sentence = SENTENCE if data is None else data.sentence
    calibration = Calibration(config, vocab_size, device, repeats=args.repeats, sentence=sentence)
    _say(env, f"computation in {config.precision} on {device.type}")
    lines = calibration.measure(parameters) | ({} if data is None else data.constants)
    topology = Topology(env.world_size // env.local_world_size, env.local_world_size)
    if topology.ranks > 1:
        from smoe_ds.scaling.calibrate_links import measure_links

        _say(env, "links")
        lines |= measure_links(topology, device, args.repeats)
    cuda = device.type == "cuda"
    cores, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
    return Constants(
        device=torch.cuda.get_device_name(device) if cuda else _processor(),
        accelerator=device.type,
        precision=config.precision,
        lines=lines,
        memory_bytes=torch.cuda.get_device_properties(device).total_memory if cuda else None,
        spare_core=cores >= env.local_world_size * ((1 if cuda else threads) + 1),
        padded_share=1.0 if data is None else data.padded_share,
        real_share=1.0 if data is None else data.real_share,
        circumstances=_circumstances(config, vocab_size, topology, cores, threads),
    )


def _say(env: Env, what: str) -> None:
    if env.rank == 0:
        print(f"smoe-ds calibrate: measuring {what}, {env.world_size} rank(s)", file=sys.stderr)


def _data_figures(config: RunConfig) -> DataFigures | None:
    """What the corpus gives; None where it is not prepared. On all ranks alike, since all have to see the corpus."""
    from smoe_ds.data.corpus import Corpus
    from smoe_ds.data.manifest import TOKENIZER
    from smoe_ds.scaling.calibrate_data import measure_data

    folder = Path(config.smoe.data.path)
    return measure_data(config, Corpus(folder, verify=False)) if (folder / TOKENIZER).is_file() else None


def _circumstances(config: RunConfig, vocab_size: int, topology: Topology, cores: int, threads: int) -> dict[str, Any]:
    from smoe_ds.scaling.predict import model_shape
    from smoe_ds.weights.weights_folder import versions

    return {
        "hosts": topology.nodes,
        "ranks_per_host": topology.per_node,
        "cores": cores,
        "threads": threads,
        "model": model_shape(config, vocab_size),
        "versions": {"python": platform.python_version(), **versions()},
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    """The processor's name, as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "cpu"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _write(file: Path, constants: Constants) -> None:
    from smoe_ds.checkpoints.commit import write_text_durably
    from smoe_ds.report.scaling import constants_lines

    try:
        write_text_durably(file, json.dumps(constants.as_json(), indent=1) + "\n")
    except OSError as error:
        raise ConfigError(f"--output {file}: cannot be written: {error.strerror}; choose another") from error
    print("\n".join(constants_lines(constants)))
    far, worst = max((one.misfit(), kind.replace("_", " ")) for kind, one in constants.lines.items())
    print(f"smoe-ds calibrate: in {file}; furthest from its line: {worst}, {far:.0%}", file=sys.stderr)
