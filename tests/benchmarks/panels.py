"""What TensorBoard's panels cost training: ``python -m tests.benchmarks.panels RUN.json``.

Two trainers of the same run take turns, a round of steps with a log line at its end each. One tells all: losses by
direction, loads of single experts, time by phase, TensorBoard and history. The plain one sums up losses alone, and
nobody listens. The rounds' times are compared with each other.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from smoe_ds.config import load_run
from smoe_ds.moe import exchange
from smoe_ds.moe.expert_parallel import sum_over_ranks
from smoe_ds.train.log_listeners import TensorBoard
from smoe_ds.train.meters import Meter
from smoe_ds.train.phases import PhaseClock
from smoe_ds.train.trainer import Trainer
from tests.benchmarks.measure import interleaved, one_rank, ratio, report

NAMES = ("plain", "panels")


class _NoClock(PhaseClock):
    """Measures nothing."""

    def phase(self, name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


def make_trainer(name: str, args: argparse.Namespace, folder: Path, device: torch.device, env: Any) -> Trainer:
    """One of `NAMES`."""
    own = [*args.overrides, f"smoe.train.output_dir={folder / name}", "smoe.moe.ep_size=1"]
    trainer = Trainer(load_run(args.run_file, own), env, device)
    if name == "plain":
        for listener in trainer.listeners:
            listener.close()
        trainer.listeners = []
        trainer.phases = _NoClock(device)
        trainer.meter = Meter(trainer.meter._block_names, sum_over_ranks)
    else:
        trainer.listeners = [one for one in trainer.listeners if type(one).__name__ != "Console"]
        assert any(isinstance(one, TensorBoard) for one in trainer.listeners)
    exchange.wait_timer = nullcontext
    return trainer


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Run what the arguments name; returns the rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.panels", description=__doc__)
    parser.add_argument("run_file")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=20, help="steps between two log lines")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: processor time, see measure.py")
    parser.add_argument("--json", help="file for the rows")
    args = parser.parse_args(argv)
    env, device = one_rank()
    with tempfile.TemporaryDirectory() as scratch:
        trainers = {name: make_trainer(name, args, Path(scratch), device, env) for name in NAMES}

        def a_round(trainer: Trainer) -> None:
            for _ in range(args.steps):
                trainer.stream.wait()
                trainer._step()
            trainer._log()

        rounds = {name: (lambda trainer=trainer: a_round(trainer)) for name, trainer in trainers.items()}  # type: ignore[misc]
        times = interleaved(rounds, args.rounds, device, args.clock)
        for trainer in trainers.values():
            trainer.stream.close()
            for listener in trainer.listeners:
                listener.close()
    rows = [
        {"training": name, "round_s": sum(times[name]) / args.rounds, **ratio(times, name, "plain")} for name in NAMES
    ]
    report(f"{Path(args.run_file).stem}, {args.steps} steps a log line", rows, args.json)
    return rows


if __name__ == "__main__":
    main()
