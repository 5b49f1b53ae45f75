"""``smoe-ds train``: one rank of a training run, started by any launcher."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from smoe_ds.cli.arguments import add_local_rank, add_run_arguments
from smoe_ds.errors import SmoeError
from smoe_ds.text_line import command_line

if TYPE_CHECKING:
    from smoe_ds.config.run import RunConfig
    from smoe_ds.parallel.env import Env
    from smoe_ds.train.stopping import StopSignals
    from smoe_ds.watch.heartbeat import Heartbeat

HELP = "train a model from a run file, or continue from its last checkpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.epilog = (
        "Exit code: 0 the run is complete; 75 it was told to stop and has saved itself, so that the same command "
        "continues it; 2 an error you can fix."
    )
    add_run_arguments(parser)
    parser.add_argument(
        "--resume",
        choices=("auto", "never"),
        default="auto",
        help="auto: continue from the last checkpoint in the run folder, if there is one; never: stop if the folder "
        "already has checkpoints (default: auto)",
    )
    add_local_rank(parser)


def run(args: argparse.Namespace) -> int:
    """Train; exit code 0 when the run is complete, 75 when it was told to stop and can be continued."""
    from smoe_ds.config import check_world, load_run
    from smoe_ds.parallel.launchers import discover
    from smoe_ds.parallel.process_group import with_meeting_point
    from smoe_ds.parallel.threads import choose_threads
    from smoe_ds.watch.heartbeat import Heartbeat

    configuration = load_run(args.run_file, args.overrides)
    env = discover()
    choose_threads(env.local_world_size)
    check_world(configuration, env.world_size)
    env = with_meeting_point(env)
    try:
        with Heartbeat() as heartbeat:
            return _train(args, configuration, env, heartbeat)
    except SmoeError as error:
        if error.agreed and env.rank > 0:
            return 2  # rank 0 says it for all
        raise


def _train(args: argparse.Namespace, configuration: RunConfig, env: Env, heartbeat: Heartbeat) -> int:
    """Hears signals, beats, holds the run folder's lock on rank 0, and trains."""
    from smoe_ds.run.folder import RunFolder
    from smoe_ds.run.lock import locked, make_folder
    from smoe_ds.train.stopping import StopSignals
    from smoe_ds.watch.heartbeat import remove_old_beats

    def interrupted() -> None:
        heartbeat.fail("exception", KeyboardInterrupt("SIGINT came twice"))

    settings = configuration.smoe.train
    folder = make_folder(settings.output_dir)
    resume = _command(args, env)
    with StopSignals(interrupted) as signals:
        heartbeat.start(folder, env, deadline=settings.death_deadline, stall=settings.stall_timeout, resume=resume)
        if env.rank > 0:
            return _train_in_group(args, configuration, env, heartbeat, signals)
        with locked(folder):
            remove_old_beats(folder, env)
            RunFolder(folder).crash.unlink(missing_ok=True)
            return _train_in_group(args, configuration, env, heartbeat, signals)


def _train_in_group(
    args: argparse.Namespace, configuration: RunConfig, env: Env, heartbeat: Heartbeat, signals: StopSignals
) -> int:
    """Joins the process group and trains. After an error of one rank the group is not ended: that waits for all."""
    from smoe_ds.config import check_device
    from smoe_ds.parallel.device import compute_capability, device_of
    from smoe_ds.parallel.process_group import init_distributed, shutdown
    from smoe_ds.watch.watch_task import MEETING

    heartbeat.doing("loading libraries")
    device = device_of(env)
    if device.index is not None:
        env = replace(env, local_rank=device.index)  # the engine takes the GPU of this number
    check_device(configuration, device.type, compute_capability(device))
    heartbeat.doing(MEETING)
    timeout = configuration.smoe.train.stall_timeout
    env = init_distributed(env, device, timeout=timeout, who_came=heartbeat.who_came)
    from smoe_ds.train.trainer import Trainer

    heartbeat.doing("opening the run folder")
    try:
        trainer = Trainer(configuration, env, device, resume=args.resume == "auto", heartbeat=heartbeat)
        code = trainer.fit(signals)
    except SmoeError as error:
        if error.agreed:
            shutdown()
        raise
    shutdown()
    return code


def _command(args: argparse.Namespace, env: Env) -> str:
    """The command that goes on from the last checkpoint."""
    words = ["smoe-ds", "train", str(args.run_file)]
    for override in args.overrides:
        words += ["--set", override]
    text = command_line(words)
    return text if env.world_size == 1 else f"{text} # on {env.world_size} ranks as before, {env.launcher}"
