"""Threads that spin against threads that sleep while they wait: ``python -m tests.benchmarks.threads``.

Trains a small model in a process of its own for each way, in turn, on a machine as it is and with another job on the
first core. Prints tokens per second over those of one thread on the machine as it is.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

WAYS = {
    "spin, as OpenMP does": {},
    "sleep": {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"},
    "spin 1,000 times": {"GOMP_SPINCOUNT": "1000"},
}
_OURS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each process computes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(tokens_per_second(args.seconds, args.width))
        return
    cases = [
        ("1 thread", 1, {}),
        *((f"{args.threads} threads, {name}", args.threads, way) for name, way in WAYS.items()),
    ]
    speeds: dict[tuple[str, bool], list[float]] = {}
    for _ in range(args.repeats):
        for busy in (False, True):
            for name, threads, way in cases:
                with other_job() if busy else contextlib.nullcontext():
                    speeds.setdefault((name, busy), []).append(measured(args, threads, way))
    one = statistics.median(speeds[cases[0][0], False])
    print(f"load {os.getloadavg()[0]:.1f}, {len(os.sched_getaffinity(0))} cores, 1 thread {one:,.0f} tokens/s")
    print("| threads | as it is | with another job on the first core |\n|---|---:|---:|")
    for name, _, _ in cases:
        quiet, busy = (statistics.median(speeds[name, busy]) / one for busy in (False, True))
        print(f"| {name} | {quiet:.2f} | {busy:.2f} |")


def measured(args: argparse.Namespace, threads: int, way: dict[str, str]) -> float:
    """Tokens per second of a process with so many threads that wait in this way."""
    rest = {name: value for name, value in os.environ.items() if name not in _OURS}
    command = [sys.executable, "-m", "tests.benchmarks.threads", "--child"]
    command += ["--seconds", str(args.seconds), "--width", str(args.width)]
    environ = {**rest, "OMP_NUM_THREADS": str(threads), **way}
    return float(subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout)


@contextlib.contextmanager
def other_job() -> Iterator[None]:
    """A process that computes on the first core all the time."""
    core = min(os.sched_getaffinity(0))
    program = f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        try:
            yield
        finally:
            process.kill()


def tokens_per_second(seconds: float, width: int) -> float:
    """Of forward and backward passes of a small model with experts, after one pass to warm up."""
    import torch

    from smoe_ds.config.model import ModelConfig
    from smoe_ds.config.moe import MoeConfig
    from smoe_ds.model.loss import translation_loss
    from smoe_ds.model.transformer import Transformer

    config = ModelConfig(d_model=width, d_ffn=4 * width, num_heads=4, encoder_layers=2, decoder_layers=2)
    model = Transformer(config, MoeConfig(strata=[2, 2]), 4000, seed=1)
    tokens = torch.randint(10, 4000, (16, 24), generator=torch.Generator().manual_seed(1))

    def step() -> None:
        logits, _ = model(tokens, tokens)
        translation_loss(logits, tokens, 0.1).smoothed.backward()

    step()
    steps, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        step()
        steps += 1
    return 2 * tokens.numel() * steps / (time.monotonic() - began)


if __name__ == "__main__":
    main()
