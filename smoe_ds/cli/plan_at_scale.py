"""``smoe-ds plan RUN.json --nodes N``: step time, throughput and memory of a run on many devices."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.cli.messages import warn
from smoe_ds.errors import ConfigError

if TYPE_CHECKING:
    from smoe_ds.config.run import RunConfig
    from smoe_ds.scaling.collectives import Topology

_NEED_NODES = ("gpus_per_node", "interconnect", "ports", "device", "constants", "micro_batches")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that go with ``--nodes``."""
    scale = parser.add_argument_group("at scale", "predict step time, throughput and memory on many hosts")
    scale.add_argument("--nodes", metavar="N[,N...]", help="number of hosts; several numbers give a table")
    scale.add_argument("--gpus-per-node", type=int, metavar="N", help="GPUs of each host (default: 8)")
    scale.add_argument(
        "--interconnect",
        metavar="NAME|FILE",
        help="links between hosts (ib-hdr, ib-edr, ethernet-10g) and within one (nvlink4, pcie3), separated by commas; "
        "describe another link in a JSON file",
    )
    scale.add_argument("--ports", type=int, metavar="N", help="network ports of each host (default: 1)")
    scale.add_argument(
        "--device",
        metavar="NAME",
        help="use the published figures of v100, a100, h100 or h200 (default: v100 for fp16, h200 for bf16)",
    )
    scale.add_argument("--constants", type=Path, metavar="FILE", help="use the figures that smoe-ds calibrate measured")
    scale.add_argument(
        "--micro-batches",
        type=int,
        metavar="N",
        help="micro-batches per GPU and step, so that the batch grows with the GPUs (default: the GPUs share the run's "
        "batch)",
    )


def refuse_arguments(args: argparse.Namespace) -> None:
    """Refuses arguments that mean nothing without ``--nodes``.

    Raises:
        ConfigError: names the first one.
    """
    for name in _NEED_NODES:
        if getattr(args, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')}: only works together with --nodes; add --nodes N")


def run(args: argparse.Namespace, config: RunConfig, vocab_size: int) -> int:
    """Prints what one number of hosts gives, part by part, or a table of several."""
    from smoe_ds.planning.plan import placement_warnings
    from smoe_ds.report.scaling import prediction_json, prediction_text, predictions_page
    from smoe_ds.run.requested_capacity import measured_requested_capacity
    from smoe_ds.scaling.constants import choose_constants
    from smoe_ds.scaling.predict import constants_warnings, predict, predict_all

    if args.world_size is not None:
        raise ConfigError("--world-size: follows from --nodes and --gpus-per-node; leave it out")
    topologies = _topologies(args)
    precision, ports = config.precision, args.ports or 1
    constants = choose_constants(
        precision, file=args.constants, device=args.device, interconnect=args.interconnect, ports=ports
    )
    capacity = None if args.run is None else measured_requested_capacity(args.run)
    settings = {"micro_batches": args.micro_batches, "requested_capacity": capacity}
    if len(topologies) == 1:
        single = predict(config, vocab_size, constants, topologies[0], **settings)
        content, text = single.as_json(), prediction_text(config, constants, single)
    else:
        found = predict_all(config, vocab_size, constants, topologies, **settings)
        content = {"predictions": [prediction_json(one) for one in found]}
        text = predictions_page(config, constants, found).text()
    content["constants"] = constants.as_json()
    print(json.dumps(content, indent=1) if args.json else text)
    for warning in [*constants_warnings(config, constants, topologies[0], vocab_size), *placement_warnings(config)]:
        warn(warning)
    return 0


def _topologies(args: argparse.Namespace) -> list[Topology]:
    from smoe_ds.scaling.collectives import Topology

    try:
        nodes = [int(word) for word in args.nodes.split(",")]
    except ValueError:
        nodes = []
    if not nodes or min(nodes) < 1:
        raise ConfigError(f"--nodes {args.nodes}: expected numbers of 1 or more, such as 16 or 1,2,4")
    return [Topology(number, args.gpus_per_node or 8) for number in nodes]
