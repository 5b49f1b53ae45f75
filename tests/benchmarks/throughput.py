"""Training steps of whole systems beside each other: ``python -m tests.benchmarks.throughput RUN.json``.

Systems of the same recipe train on one rank, interleaved: each takes some steps per round, and the rounds' times are
compared with each other. Every system of ``smoe-ds plan RUN.json --systems`` can be named, and SMoE by its strata. A
row has the tokens per second and how many times those of the first system they are (``over_first``), the time and the
FLOPs of a token over those of the first system, and the one ratio over the other (``time_over_flops``: 1 if a system
costs what its FLOPs say). It also has the share of the time in which a step waited for data, the matrix products'
FLOP/s (forward pass times three, experts by the rows they got when all find room) and, on a GPU, memory at the peak and
what the profiler sees: kernels per micro-batch and the share of the time in which one runs.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from smoe_ds.config import load_run
from smoe_ds.config.run import RunConfig
from smoe_ds.errors import ConfigError
from smoe_ds.planning.plan import make_plan
from smoe_ds.planning.systems import SYSTEMS, run_of
from smoe_ds.planning.work import work_of
from smoe_ds.train.trainer import Trainer
from tests.benchmarks.measure import one_rank, report, synchronize

NAMES = {re.sub("[^a-z0-9+]+", "-", system.name.lower()).strip("-"): system for system in SYSTEMS}
"""The systems of ``plan --systems``, as the command line names them."""
NAMES["vanilla"] = NAMES.pop("vanilla-moe")
USUAL = ("dense", "vanilla", "4-4", "2-2-2-2")
_STRATA = re.compile(r"[1-9]\d*(-[1-9]\d*)+")


@dataclass
class Racer:
    """One system: its trainer and what its rounds took.

    Attributes:
        trainer: trains it.
        seconds: of each round.
        tokens: source and target tokens of each round, padding excluded.
        waited: part of each round in which data was waited for [s].
        peak: device memory at the peak of a round, beyond what lay there before [byte].
    """

    trainer: Trainer
    seconds: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    peak: int = 0

    def train(self, steps: int, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> None:
        """One round."""
        waited, tokens, held = 0.0, 0, 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            held = torch.cuda.memory_allocated(device)
        synchronize(device)
        began = clock()
        for _ in range(steps):
            asked = clock()
            self.trainer.stream.wait()
            waited += clock() - asked
            self.trainer._step()
            tokens += sum(int((b.src != 0).sum() + (b.tgt_out != 0).sum()) for b in self.trainer.data.batches)
        synchronize(device)
        self.seconds.append(clock() - began)
        self.tokens.append(tokens)
        self.waited.append(waited)
        if device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(device) - held


def flops_per_token(run: RunConfig, vocab_size: int) -> float:
    """Of a training step's matrix products, per token of either side, routing uniform."""
    work = work_of(run, vocab_size)
    experts = work.blocks * sum(stratum.rows for stratum in work.strata) * work.flops_per_row
    return 3 * (work.dense_flops + experts) / work.padded_tokens


def profiled(racer: Racer, steps: int, device: torch.device, top: int) -> dict[str, Any]:
    """Kernels per micro-batch, the share of the time in which the GPU computes, and what takes most of it."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
        racer.train(steps, device)
    seconds = racer.seconds.pop()
    racer.tokens.pop(), racer.waited.pop()
    assert profiler.profiler is not None
    kernels: dict[str, list[float]] = {}
    waits = 0
    for event in profiler.profiler.kineto_results.events():
        if str(event.device_type()) == "DeviceType.CUDA":
            kernels.setdefault(event.name(), []).append(event.duration_ns() / 1e9)
        waits += event.name() == "aten::_local_scalar_dense" or event.name() == "cudaStreamSynchronize"
    batches = steps * racer.trainer.accumulation_steps
    busy = sum(map(sum, kernels.values()))
    print(f"profile: {seconds / batches * 1e3:.2f} ms a micro-batch, kernels {busy / batches * 1e3:.2f} ms")
    for name, times in sorted(kernels.items(), key=lambda item: -sum(item[1]))[:top]:
        print(f"  {sum(times) / batches * 1e3:7.3f} ms {len(times) / batches:7.1f} x  {name[:110]}")
    return {
        "kernels": sum(map(len, kernels.values())) / batches,
        "waits": waits / batches,
        "busy_ms": busy / batches * 1e3,
    }


def runs_of(names: Sequence[str], run_file: str, overrides: Sequence[str], folder: Path) -> dict[str, RunConfig]:
    """The runs of the systems that are named; of ``all``, those that the run can have, and a line for each other.

    Args:
        names: keys of `NAMES`, strata such as ``4-4``, or ``all``.
        run_file: gives the sizes, and as many experts as its strata have together.
        overrides: changes of it.
        folder: for run folders.

    Raises:
        ConfigError: there is no such system, or the run cannot have one that is named.
    """

    def run_of_name(name: str) -> RunConfig:
        shape = [f"smoe.moe.strata=[{name.replace('-', ',')}]"] if _STRATA.fullmatch(name) else []
        own = [*overrides, *shape, "smoe.moe.ep_size=1", "smoe.train.validate_batches=1"]
        run = run_of(NAMES["smoe" if shape else name], load_run(run_file, own))
        train = run.smoe.train.model_copy(update={"output_dir": str(folder / name)})
        return replace(run, smoe=run.smoe.model_copy(update={"train": train}))

    found = {}
    for name in names:
        if name not in ("all", *NAMES) and not _STRATA.fullmatch(name):
            raise ConfigError(f"--systems {name}: is none of all, {', '.join(NAMES)}, or strata such as 4-4")
        for each in NAMES if name == "all" else [name]:
            try:
                found[each] = run_of_name(each)
            except ConfigError as error:
                if name != "all":
                    raise
                print(f"left out: {each}: {error}")
    return found


def cost(run: RunConfig, vocab_size: int) -> float:
    """FLOPs of a token in training, as ``smoe-ds plan`` counts them, but for a constant factor."""
    plan = make_plan(run, vocab_size=vocab_size)
    return plan.flops_per_token * plan.training_passes


def row(name: str, racer: Racer, against: Racer, device: torch.device, seen: dict[str, Any]) -> dict[str, Any]:
    """One row of the table; ratios are medians over the rounds."""
    trainer = racer.trainer
    vocab_size = trainer.corpus.tokenizer.vocab_size
    speed = [tokens / seconds for tokens, seconds in zip(racer.tokens, racer.seconds, strict=True)]
    other = [tokens / seconds for tokens, seconds in zip(against.tokens, against.seconds, strict=True)]
    median = statistics.median(speed)
    over_first = statistics.median(a / b for a, b in zip(speed, other, strict=True))
    flops = cost(trainer.run, vocab_size) / cost(against.trainer.run, vocab_size)
    return {
        "system": name,
        "tokens_per_s": round(median),
        "over_first": over_first,
        "time": 1 / over_first,
        "flops": flops,
        "time_over_flops": 1 / over_first / flops,
        "round_s": statistics.median(racer.seconds),
        "waits_for_data": statistics.median(w / s for w, s in zip(racer.waited, racer.seconds, strict=True)),
        "tflops": median * flops_per_token(trainer.run, vocab_size) / 1e12,
        "peak_mib": racer.peak / 2**20 if device.type == "cuda" else "-",
        **seen,
    }


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Run what the arguments name; returns the rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.throughput", description=__doc__)
    parser.add_argument("run_file")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--systems",
        nargs="+",
        metavar="NAME",
        default=USUAL,
        help=f"systems to train, the first one is what the others are compared with: all (in memory at once), strata "
        f"such as 4-4, or {', '.join(NAMES)} (default: {' '.join(USUAL)})",
    )
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="cpu: processor time of this process, which other work on the machine disturbs less; use one thread "
        "(OMP_NUM_THREADS=1)",
    )
    parser.add_argument("--steps", type=int, default=3, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="on a GPU: print the N longest kernels")
    parser.add_argument("--json", help="file for the rows")
    args = parser.parse_args(argv)
    env, device = one_rank()
    with tempfile.TemporaryDirectory() as scratch:
        runs = runs_of(args.systems, args.run_file, args.overrides, Path(scratch))
        racers = {name: Racer(Trainer(run, env, device)) for name, run in runs.items()}
        clock = time.perf_counter if args.clock == "wall" else time.process_time
        for round_number in range(args.rounds + 1):
            for racer in racers.values():
                racer.train(args.steps, device, clock)
                if round_number == 0:
                    racer.seconds.clear(), racer.tokens.clear(), racer.waited.clear()
        first = next(iter(racers.values()))
        rows = []
        for name, racer in racers.items():
            seen = profiled(racer, 1, device, args.profile) if args.profile and device.type == "cuda" else {}
            rows.append(row(name, racer, first, device, seen))
        for racer in racers.values():
            racer.trainer.stream.close()
    run = first.trainer.run
    title = f"{Path(args.run_file).stem}, {run.precision} on {device.type}, {run.smoe.data.max_tokens} tokens"
    report(title, rows, args.json)
    return rows


if __name__ == "__main__":
    main()
