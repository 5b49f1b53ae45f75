"""Training steps of whole systems beside each other: ``python -m tests.benchmarks.throughput RUN.json``.

Dense, vanilla and stratified models of the same recipe train on one rank, interleaved: each takes some steps per round,
and the rounds' times are compared with each other. A row also has the share of the time in which a step waited for
data, the matrix products' FLOP/s (forward pass times three, experts by the rows they got when all find room) and, on a
GPU, memory at the peak and what the profiler sees: kernels per micro-batch and the share of the time in which one runs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from smoe_ds.config import load_run
from smoe_ds.config.run import RunConfig
from smoe_ds.parallel.device import device_of
from smoe_ds.parallel.launchers import discover
from smoe_ds.parallel.process_group import init_distributed, with_meeting_point
from smoe_ds.planning.work import work_of
from smoe_ds.train.trainer import Trainer
from tests.benchmarks.measure import report, synchronize

SYSTEMS = {"dense": "[]", "vanilla": "[8]", "4-4": "[4,4]", "2-2-2-2": "[2,2,2,2]"}


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

    def train(self, steps: int, device: torch.device) -> None:
        """One round."""
        waited, tokens, held = 0.0, 0, 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            held = torch.cuda.memory_allocated(device)
        synchronize(device)
        began = time.perf_counter()
        for _ in range(steps):
            asked = time.perf_counter()
            self.trainer.stream.wait()
            waited += time.perf_counter() - asked
            self.trainer._step()
            tokens += sum(int((b.src != 0).sum() + (b.tgt_out != 0).sum()) for b in self.trainer.data.batches)
        synchronize(device)
        self.seconds.append(time.perf_counter() - began)
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


def make_racers(args: argparse.Namespace, folder: Path, env: Any, device: torch.device) -> dict[str, Racer]:
    racers = {}
    for name in args.systems:
        own = [*args.overrides, f"smoe.moe.strata={SYSTEMS[name]}", f"smoe.train.output_dir={folder / name}"]
        run = load_run(args.run_file, [*own, "smoe.moe.ep_size=1", "smoe.train.validate_batches=1"])
        racers[name] = Racer(Trainer(run, env, device))
    return racers


def row(name: str, racer: Racer, against: Racer, device: torch.device, seen: dict[str, Any]) -> dict[str, Any]:
    """One row of the table; ratios are medians over the rounds."""
    trainer = racer.trainer
    speed = [tokens / seconds for tokens, seconds in zip(racer.tokens, racer.seconds, strict=True)]
    other = [tokens / seconds for tokens, seconds in zip(against.tokens, against.seconds, strict=True)]
    median = statistics.median(speed)
    return {
        "system": name,
        "tokens_per_s": round(median),
        "over_first": statistics.median(a / b for a, b in zip(speed, other, strict=True)),
        "round_s": statistics.median(racer.seconds),
        "waits_for_data": statistics.median(w / s for w, s in zip(racer.waited, racer.seconds, strict=True)),
        "tflops": median * flops_per_token(trainer.run, trainer.corpus.tokenizer.vocab_size) / 1e12,
        "peak_mib": racer.peak / 2**20 if device.type == "cuda" else "-",
        **seen,
    }


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Run what the arguments name; returns the rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.throughput", description=__doc__)
    parser.add_argument("run_file")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--steps", type=int, default=3, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="on a GPU: print the N longest kernels")
    parser.add_argument("--json", help="file for the rows")
    args = parser.parse_args(argv)
    env = with_meeting_point(discover())
    device = device_of(env)
    env = init_distributed(env, device, timeout=600)
    with tempfile.TemporaryDirectory() as scratch:
        racers = make_racers(args, Path(scratch), env, device)
        for round_number in range(args.rounds + 1):
            for racer in racers.values():
                racer.train(args.steps, device)
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
