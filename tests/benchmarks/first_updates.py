"""What experts learn at first, beside a dense network: ``python -m tests.benchmarks.first_updates RUN.json``.

Each system trains the same batches on one rank. At some steps a row tells of its feed-forward networks, the experts of
all blocks or the dense networks in their place: the mean norm of an output row, the norm of the gradient and that of
the update, each relative to the weights' (means over networks), and the share of rows that the busiest of them got.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from smoe_ds.config import load_run
from smoe_ds.config.run import RunConfig
from smoe_ds.moe.experts import ExpertFFN
from smoe_ds.train.trainer import Trainer
from tests.benchmarks.measure import one_rank, report

SYSTEMS = {"dense": "[]", "vanilla": "[8]", "4-4": "[4,4]", "2-2-2-2": "[2,2,2,2]"}


class Watched:
    """One network: what one step showed of it.

    Attributes:
        rows: rows that it got.
        output: sum of the norms of its output rows.
        gradient: sum of the squares of its gradient.
    """

    def __init__(self, network: ExpertFFN) -> None:
        self.network = network
        self.clear()
        network.register_forward_hook(self._output)
        for weight in self.weights():
            weight.register_hook(self._gradient)

    def weights(self) -> list[nn.Parameter]:
        """The matrices; biases are left aside."""
        return [self.network.w1, self.network.w2]

    def clear(self) -> None:
        """Before a step."""
        self.rows, self.output, self.gradient = 0, 0.0, 0.0
        self.before = [weight.detach().clone() for weight in self.weights()]

    def size(self) -> float:
        """Norm of the weights before the step."""
        return float(torch.stack([weight.square().sum() for weight in self.before]).sum().sqrt())

    def update(self) -> float:
        """Norm of what the step added to the weights."""
        moved = [(new.detach() - old).square().sum() for new, old in zip(self.weights(), self.before, strict=True)]
        return float(torch.stack(moved).sum().sqrt())

    def _output(self, _: nn.Module, __: Any, output: Tensor) -> None:
        self.rows += output.shape[:-1].numel()
        self.output += float(output.detach().norm(dim=-1).sum())

    def _gradient(self, gradient: Tensor) -> None:
        self.gradient += float(gradient.square().sum())


def networks(model: nn.Module, places: Sequence[str]) -> dict[str, list[ExpertFFN]]:
    """The feed-forward networks at these places, e.g. ``encoder.layers.1.ffn``: of a block all experts."""
    return {p: [m for m in model.get_submodule(p).modules() if isinstance(m, ExpertFFN)] for p in places}


def watch(trainer: Trainer, places: Sequence[str], steps: int, at: Collection[int]) -> list[dict[str, Any]]:
    """Trains; one row for each step of ``at``."""
    watched = [[Watched(one) for one in some] for some in networks(trainer.engine.module, places).values()]
    rows = []
    for step in range(1, steps + 1):
        for one in (one for some in watched for one in some):
            one.clear()
        trainer.stream.wait()
        trainer._step()
        if step in at:
            rows.append({"step": step} | _row(watched))
    return rows


def _row(watched: list[list[Watched]]) -> dict[str, Any]:
    every = [one for some in watched for one in some]
    busiest = [max(one.rows for one in some) / sum(one.rows for one in some) * len(some) for some in watched]
    return {
        "output": sum(one.output for one in every) / sum(one.rows for one in every),
        "gradient": sum(one.gradient**0.5 / one.size() for one in every) / len(every),
        "update": sum(one.update() / one.size() for one in every) / len(every),
        "busiest": sum(busiest) / len(busiest),
    }


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Run what the arguments name; returns the rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.first_updates", description=__doc__)
    parser.add_argument("run_file")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--at", nargs="+", type=int, default=[1, 10, 25, 50, 100], help="steps that are told of")
    parser.add_argument("--json", help="file for the rows")
    args = parser.parse_args(argv)
    env, device = one_rank()
    with tempfile.TemporaryDirectory() as scratch:

        def run_of(system: str) -> RunConfig:
            own = [f"smoe.moe.strata={SYSTEMS[system]}", "smoe.moe.ep_size=1", "smoe.moe.expert_backend=loop"]
            return load_run(args.run_file, [*args.overrides, *own, f"smoe.train.output_dir={Path(scratch) / system}"])

        places = list((sparse := run_of("vanilla")).smoe.moe.blocks(sparse.smoe.model))
        rows = []
        for system in args.systems:
            trainer = Trainer(run_of(system), env, device)
            with closing(trainer.stream):
                found = watch(trainer, places, args.steps, args.at)
            rows += [{"system": system} | row for row in found]
    report(f"{Path(args.run_file).stem} on {device.type}", rows, args.json)
    return rows


if __name__ == "__main__":
    main()
