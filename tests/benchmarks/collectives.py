"""What a training step's collectives cost: ``torchrun --nproc_per_node 2 -m tests.benchmarks.collectives RUN.json``.

Trains for some steps with a clock around every collective, and prints for each kind how many a step has, what they
carry, the time that rank 0 spends in them and its share of the step. ``when_ready`` is the floor: the same number, of
the mean size, one after the other with nothing between them. What is above it is waiting for a rank that computes.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

KINDS = (
    "all_to_all_single", "all_reduce", "all_gather", "all_gather_into_tensor", "reduce_scatter_tensor", "broadcast",
)  # fmt: skip


@dataclass
class Spent:
    """On one kind of collective: how many, what this rank gave to them, and the time in them [s]."""

    number: int = 0
    nbytes: int = 0
    seconds: float = 0.0


class TimedWork:
    """A collective under way; the time that one waits for it counts."""

    def __init__(self, work: Any, spent: Spent) -> None:
        self._work = work
        self._spent = spent

    def wait(self, *args: Any) -> Any:
        """Waits as the work itself does."""
        began = time.perf_counter()
        done = self._work.wait(*args)
        self._spent.seconds += time.perf_counter() - began
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)


def watch() -> dict[str, Spent]:
    """Puts the clocks around ``torch.distributed``'s functions; what they count, by kind."""
    counts = {kind: Spent() for kind in KINDS}
    for kind in KINDS:
        setattr(dist, kind, _timed(getattr(dist, kind), counts[kind]))
    return counts


def _timed(function: Callable[..., Any], spent: Spent) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        began = time.perf_counter()
        work = function(*args, **kwargs)
        spent.seconds += time.perf_counter() - began
        spent.number += 1
        spent.nbytes += tensors[-1].numel() * tensors[-1].element_size()
        return work if work is None else TimedWork(work, spent)

    return call


def floor(kind: str, nbytes: float, number: int, device: torch.device) -> float:
    """Seconds of a step's collectives of one kind, all ranks being ready: the median of 20 steps.

    Args:
        kind: of collective.
        nbytes: that each rank gives to it; rows of an all-to-all all go to other ranks. The most of all ranks count.
        number: of them in a step.
        device: where the tensors are.
    """
    size, rank = dist.get_world_size(), dist.get_rank()
    most = torch.tensor([nbytes / 4], device=device)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    others = max(1, size - 1)
    rows = torch.zeros((int(most) // (others * size) + 1) * others * size, device=device)
    out = torch.zeros(rows.numel() * size, device=device)
    splits = [0 if other == rank and size > 1 else rows.numel() // others for other in range(size)]
    calls: dict[str, Callable[[], object]] = {
        "all_to_all_single": lambda: dist.all_to_all_single(torch.empty_like(rows), rows, splits, splits),
        "all_reduce": lambda: dist.all_reduce(rows),
        "all_gather": lambda: dist.all_gather(list(out.chunk(size)), rows),
        "all_gather_into_tensor": lambda: dist.all_gather_into_tensor(out, rows),
        "reduce_scatter_tensor": lambda: dist.reduce_scatter_tensor(torch.empty_like(rows.chunk(size)[0]), rows),
        "broadcast": lambda: dist.broadcast(rows, 0),
    }
    times = []
    for _ in range(20):
        dist.barrier()
        began = time.perf_counter()
        for _ in range(number):
            calls[kind]()
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Run what the arguments name; returns rank 0's rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.collectives", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=100, help="that count")
    parser.add_argument("--warm-up", type=int, default=20, help="steps before them")
    parser.add_argument("--json", help="file for the rows")
    args = parser.parse_args(argv)
    counts = watch()

    from smoe_ds.config.load import load_run
    from smoe_ds.train.trainer import Trainer
    from tests.benchmarks.measure import one_rank, report

    env, device = one_rank()
    torch.set_num_threads(1)
    folder = [tempfile.mkdtemp(prefix="smoe-collectives-") if env.rank == 0 else None]
    dist.broadcast_object_list(folder, 0)
    steps = args.warm_up + args.steps
    ours = {"output_dir": f'"{folder[0]}/run"', "max_steps": steps, "validate_every": 10**9, "checkpoint_every": 10**9}
    settings = [*args.overrides, *(f"smoe.train.{key}={value}" for key, value in ours.items())]
    seconds = []

    class Timed(Trainer):
        def _step(self) -> None:
            if len(seconds) == args.warm_up:
                for spent in counts.values():
                    spent.number, spent.nbytes, spent.seconds = 0, 0, 0.0
            began = time.perf_counter()
            super()._step()
            seconds.append(time.perf_counter() - began)
            if len(seconds) == steps:
                found.update({kind: Spent(**vars(spent)) for kind, spent in counts.items() if spent.number})

    found: dict[str, Spent] = {}
    Timed(load_run(args.run, settings), env, device, resume=False).fit()
    step = sum(seconds[args.warm_up :]) / args.steps
    rows: list[dict[str, Any]] = []
    for kind, spent in found.items():
        if spent.number < args.steps / 2:
            continue
        ready = floor(kind, spent.nbytes / spent.number, round(spent.number / args.steps), device)
        rows.append(
            {
                "collective": kind,
                "per_step": spent.number / args.steps,
                "KB_per_step": spent.nbytes / args.steps / 1024,
                "ms_per_step": 1e3 * spent.seconds / args.steps,
                "when_ready_ms": 1e3 * ready,
                "of_step": spent.seconds / args.steps / step,
            }
        )
    if env.rank == 0:
        print(f"step: {1e3 * step:.1f} ms")
        report("collectives of a training step", rows, args.json)
        shutil.rmtree(str(folder[0]))
    dist.destroy_process_group()
    return rows


if __name__ == "__main__":
    main()
