"""``smoe-ds train``: one rank of a training run, started by any launcher."""

from __future__ import annotations

import argparse
import os

HELP = "train a model from a run file, or go on from its last checkpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("run", metavar="RUN.json", help="run file, see ds_configs/")
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override one key, e.g. smoe.moe.strata=[4,12]; may be repeated",
    )
    parser.add_argument(
        "--resume",
        choices=("auto", "never"),
        default="auto",
        help="auto: go on from the last checkpoint in the run folder, if there is one; never: refuse a folder with "
        "checkpoints (default: auto)",
    )
    # The deepspeed launcher adds --local_rank to every process; the environment says the same.
    parser.add_argument("--local_rank", type=int, default=None, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Train; exit code 0 when the run is complete, 75 when a signal stopped it and it can be continued."""
    from smoe_ds.config.load import load_run
    from smoe_ds.parallel.env import discover
    from smoe_ds.parallel.process_group import init_distributed, shutdown

    configuration = load_run(args.run, args.overrides)
    env = discover()
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if _has_cuda() else "cpu")

    import torch

    device = torch.device("cpu")
    if os.environ["DS_ACCELERATOR"] == "cuda":
        device = torch.device("cuda", env.local_rank)
    env = init_distributed(env, device)
    try:
        from smoe_ds.train.trainer import Trainer

        return Trainer(configuration, env, device, resume=args.resume == "auto").fit()
    finally:
        shutdown()


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
